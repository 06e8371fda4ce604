# What the children of a slot count: how tasks ended and how long they ran, by task; how long they had waited, by queue.
#
# A slot's tally has one writer, the child that has the slot, and is never cleared: the sums over all slots only grow,
# whatever becomes of children. Each task is counted once: `tally_before` and `tally_frame` announce what is about to be
# counted, so that whoever buries a child knows whether the last frame had been (`counted`). It costs a child a few
# nanoseconds a task, and no clock that it would not read anyway.

#: Upper ends of the steps of the two histograms, in seconds; above the last there is one more, without end.
RUN_STEPS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
WAIT_STEPS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0)

cdef uint64_t[17] RUN_STEPS_NS
cdef uint64_t[14] WAIT_STEPS_NS

for _number, _step_s in enumerate(RUN_STEPS_S):
    RUN_STEPS_NS[_number] = <uint64_t>(<double>_step_s * 1e9 + 0.5)
for _number, _step_s in enumerate(WAIT_STEPS_S):
    WAIT_STEPS_NS[_number] = <uint64_t>(<double>_step_s * 1e9 + 0.5)

cdef struct Tally:
    fq_tally* there
    fq_board* board
    uint8_t* rows               # by the task's number
    uint32_t known              # tasks that have a number
    uint64_t counted            # frames that this slot's tally has counted, by all its children
    int end                     # how the current task ends


cdef uint64_t total_of(fq_tally* tally) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint32_t row, end
    for row in range(FQ_TASK_ROWS):
        for end in range(FQ_ENDS):
            total += tally.tasks[row].ends[end]
    return total


cdef void open_tally(Tally* tally, Segment segment, uint32_t slot) noexcept:
    tally.there, tally.board = segment.tally(slot), segment.board()
    tally.rows, tally.known, tally.end = NULL, 0, FQ_SUCCEEDED
    tally.counted = total_of(tally.there)


cdef int name_rows(Tally* tally, list names) except -1:
    cdef uint32_t number
    cdef uint8_t* rows = <uint8_t*>malloc(len(names) + 1)
    if rows == NULL:
        raise MemoryError()
    for number in range(<uint32_t>len(names)):
        rows[number] = task_row(tally.board, names[number], False)
    free(tally.rows)
    tally.rows, tally.known = rows, len(names)
    return 0


cdef inline void count_start(Tally* tally, fq_frame* frame, uint64_t now) noexcept nogil:
    # By queue, from the moment when the message could have been started.
    cdef uint32_t key = frame.claim_key, i = 0
    cdef uint64_t waited = now - frame.since_ns if now > frame.since_ns else 0
    cdef fq_wait_row* row = &tally.there.queues[tally.board.key_rows[key] if key < FQ_KEY_ROWS else 0]
    row.count += 1
    row.waited_ns += waited
    while i < FQ_WAIT_STEPS and waited > WAIT_STEPS_NS[i]:
        i += 1
    if i < FQ_WAIT_STEPS:
        row.steps[i] += 1


cdef inline void count_end(Tally* tally, fq_slot* slot, uint32_t task, uint64_t number, uint64_t spent) noexcept nogil:
    # `number`: 1 + that of the frame, whose outcome has been sent.
    cdef fq_run_row* row = &tally.there.tasks[tally.rows[task] if task < tally.known else 0]
    cdef uint32_t i = 0
    store64(&slot.tally_before, tally.counted)
    store64(&slot.tally_frame, number)
    fq_step()
    store64(&row.ends[tally.end], row.ends[tally.end] + 1)
    fq_step()
    tally.counted += 1
    if tally.end == FQ_DISCARDED:
        return                  # it has not been run
    row.spent_ns += spent
    while i < FQ_RUN_STEPS and spent > RUN_STEPS_NS[i]:
        i += 1
    if i < FQ_RUN_STEPS:
        row.steps[i] += 1


cdef bint counted(Segment segment, uint32_t slot, uint64_t number) noexcept:
    # Whether the child of a slot, dead by now, had counted the frame of this number: then it was through with it.
    cdef fq_slot* child = segment.slot(slot)
    return (load64(&child.tally_frame) == number + 1
            and total_of(segment.tally(slot)) == load64(&child.tally_before) + 1)
