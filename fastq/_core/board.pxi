# The board: what the engine counts, and which task and queue each row of a counter belongs to.
#
# The engine writes it, anybody reads it: a probe on the command line needs nothing else of a worker. Rows are named
# once and stay; a reader that sees a row's number sees its name. Row 0 is for what has no row of its own: the number
# of names is bounded here, once, so that nothing that is made from them (a metric's labels) can grow without end.

#: Figures of the board. Those up to `unstarted` are the ledger's, written with each turn of the engine.
FIGURES = (
    "turn_ns", "turns", "taken", "started", "finished", "settled", "recalled", "pending", "waiting", "held",
    "result_backlog_bytes", "unstarted",
    # the worker: state (STATES), whether the broker is there, since when (unix milliseconds), who
    "state", "broker_up", "up_since_ms", "nursery_pid", "children_wanted", "slots_used", "lease_ns", "announced",
    # children
    "forks", "nurseries", "ends_agreed", "ends_dismissed", "ends_signal", "ends_exit", "ends_starting", "ends_limit",
    "ends_stopped",
    # the broker and the result store
    "round_trips", "round_trip_ns", "flushes", "flush_ns", "flushed_bytes", "reconnects",
    "restored",
    "reloads", "reloads_failed",
)

#: States of a worker, as the figure `state` has them.
STATES = ("starting", "running", "stopping", "stopped")

#: Kinds of verdicts that are counted, by task.
VERDICTS = ("lost", "timeout", "terminated", "cancelled", "expired", "revoked", "unknown", "invalid", "poison")

cdef enum:
    # Numbers of the ledger's figures.
    TURN_NS = 0
    TURNS = 1
    TAKEN = 2
    STARTED = 3
    FINISHED = 4
    SETTLED = 5
    RECALLED = 6
    PENDING_NOW = 7
    WAITING_NOW = 8
    HELD_NOW = 9
    BACKLOG = 10
    UNSTARTED = 11
    SLOTS_USED = 17
    FLUSHES = 31
    FLUSH_NS = 32
    FLUSHED = 33

cdef dict _VERDICT_NUMBERS = {name: number for number, name in enumerate(VERDICTS)}
cdef dict _FIGURE_NUMBERS = {name: number for number, name in enumerate(FIGURES)}
assert len(FIGURES) <= FQ_FIGURES
assert FIGURES[SLOTS_USED] == "slots_used"
assert FIGURES[FLUSHES] == "flushes"
assert len(VERDICTS) <= FQ_VERDICTS


cdef uint32_t name_row(char* names, uint32_t* used, uint32_t rows, bytes name, bint make) noexcept:
    # The row of a name; a new one if `make` and there is room; else 0. Cut names could be taken for each other.
    cdef uint32_t row
    cdef size_t size = len(name)
    if size == 0 or size >= FQ_NAME:
        return 0
    for row in range(1, used[0] + 1):
        if memcmp(&names[row * FQ_NAME], <char*>name, size + 1) == 0:
            return row
    if not make or used[0] + 1 >= rows:
        return 0
    memcpy(&names[(used[0] + 1) * FQ_NAME], <char*>name, size)
    store32(used, used[0] + 1)
    return used[0]


cdef uint32_t task_row(fq_board* board, bytes name, bint make) noexcept:
    return name_row(&board.task_names[0][0], &board.task_rows, FQ_TASK_ROWS, name, make)


cdef uint32_t name_queue(fq_board* board, bytes name) noexcept:
    return name_row(&board.queue_names[0][0], &board.queue_rows, FQ_QUEUE_ROWS, name, True)


cdef bytes queue_of_key(fq_board* board, uint32_t key):
    # The queue that a claim list's key belongs to; empty for one that has no row.
    cdef uint32_t row = board.key_rows[key] if key < FQ_KEY_ROWS else 0
    cdef char* name = &board.queue_names[row][0]
    return name[: strnlen(name, FQ_NAME)] if row else b""


cdef int count_verdict(fq_board* board, bytes task, str kind) except -1:
    cdef uint32_t row = task_row(board, task, False)
    cdef int number = _VERDICT_NUMBERS[kind]
    store64(&board.verdicts[row][number], board.verdicts[row][number] + 1)
    return 0


cdef list names_of(char* names, uint32_t used):
    cdef uint32_t row
    cdef char* name
    cdef list found = [b"_other"]
    for row in range(1, used + 1):
        name = &names[row * FQ_NAME]
        found.append(name[: strnlen(name, FQ_NAME)])
    return found


@cython.final
cdef class Board:
    """The engine's counters in a segment, and the sums of what its children have counted. Setting is for the engine."""
    cdef Segment segment
    cdef fq_board* board

    def __cinit__(self, Segment segment not None):
        self.segment, self.board = segment, segment.board()

    # ------------------------------------------------------------------ the engine

    def name_tasks(self, list names not None):
        """Give rows to these tasks (bytes), as long as there are any: before children are forked that use them."""
        for name in names:
            task_row(self.board, name, True)

    def put(self, str figure not None, uint64_t value):
        """Set a figure."""
        store64(&self.board.figures[<int>_FIGURE_NUMBERS[figure]], value)

    def add(self, str figure not None, uint64_t n=1):
        """Add to a figure."""
        cdef int number = _FIGURE_NUMBERS[figure]
        store64(&self.board.figures[number], self.board.figures[number] + n)

    def pulse(self):
        """The engine's loop goes on."""
        store64(&self.board.figures[TURN_NS], monotonic_ns())

    def put_length(self, bytes queue not None, uint64_t length):
        """How many messages a queue has now."""
        cdef uint32_t row = name_queue(self.board, queue)
        self.board.queues[row].length = length
        store64(&self.board.queues[row].looked_ns, monotonic_ns())

    def put_for_slot(self, list counts not None):
        """How many messages of tasks wait on the broker for a slot: (name, count), of all tasks that have slots."""
        cdef uint64_t found[201]
        cdef uint32_t row
        memset(found, 0, sizeof(found))
        for name, count in counts:
            row = task_row(self.board, name, False)
            found[row] = (found[row] or 1) + <uint64_t>count
        for row in range(FQ_TASK_ROWS):
            store64(&self.board.for_slot[row], found[row])

    # ------------------------------------------------------------------ everybody

    def figures(self):
        """All figures by name."""
        return {name: load64(&self.board.figures[number]) for number, name in enumerate(FIGURES)}

    def figure(self, str name not None):
        return load64(&self.board.figures[<int>_FIGURE_NUMBERS[name]])

    def tasks(self):
        """Names of the rows of tasks, as bytes; the first is that of all others."""
        return names_of(&self.board.task_names[0][0], load32(&self.board.task_rows))

    def queues(self):
        """Names of the rows of queues."""
        return names_of(&self.board.queue_names[0][0], load32(&self.board.queue_rows))

    def queue(self, uint32_t row):
        """(claimed, settled, length, when that was looked up by the monotonic clock in ns, 0: never) of a queue."""
        if row >= FQ_QUEUE_ROWS:
            raise IndexError(f"no row {row}")
        cdef fq_queue_row* found = &self.board.queues[row]
        return load64(&found.claimed), load64(&found.settled), load64(&found.length), load64(&found.looked_ns)

    def verdicts(self, uint32_t row):
        """Verdicts on messages of a task, in the order of VERDICTS."""
        if row >= FQ_TASK_ROWS:
            raise IndexError(f"no row {row}")
        return [load64(&self.board.verdicts[row][kind]) for kind in range(FQ_VERDICTS)]

    def for_slot(self, uint32_t row):
        """How many messages of a task waited for a slot when it was last looked up; None: it has no slots."""
        if row >= FQ_TASK_ROWS:
            raise IndexError(f"no row {row}")
        cdef uint64_t found = load64(&self.board.for_slot[row])
        return found - 1 if found else None

    cdef inline uint32_t slots_used(self) noexcept nogil:
        cdef uint64_t used = load64(&self.board.figures[SLOTS_USED])
        return <uint32_t>min(used, <uint64_t>self.segment.header.slots)

    def runs(self, uint32_t row):
        """(how tasks ended, ns spent in them, steps of the histogram) of a task, over all children there have been."""
        cdef uint64_t ends[6]
        cdef uint64_t steps[17]
        cdef uint64_t spent_ns = 0
        cdef uint32_t slot, i
        cdef fq_run_row* found
        if row >= FQ_TASK_ROWS:
            raise IndexError(f"no row {row}")
        memset(ends, 0, sizeof(ends))
        memset(steps, 0, sizeof(steps))
        for slot in range(self.slots_used()):
            found = &self.segment.tally(slot).tasks[row]
            # Steps first: a child counts the end before the step, so no histogram has more in it than its count says.
            for i in range(FQ_RUN_STEPS):
                steps[i] += load64(&found.steps[i])
            spent_ns += load64(&found.spent_ns)
            for i in range(FQ_ENDS):
                ends[i] += load64(&found.ends[i])
        return [ends[i] for i in range(FQ_ENDS)], spent_ns, [steps[i] for i in range(FQ_RUN_STEPS)]

    def waits(self, uint32_t row):
        """(messages started, ns they had waited in this worker, steps of the histogram) of a queue."""
        cdef uint64_t steps[14]
        cdef uint64_t count = 0, waited_ns = 0
        cdef uint32_t slot, i
        cdef fq_wait_row* found
        if row >= FQ_QUEUE_ROWS:
            raise IndexError(f"no row {row}")
        memset(steps, 0, sizeof(steps))
        for slot in range(self.slots_used()):
            found = &self.segment.tally(slot).queues[row]
            for i in range(FQ_WAIT_STEPS):
                steps[i] += load64(&found.steps[i])
            waited_ns += load64(&found.waited_ns)
            count += load64(&found.count)
        return count, waited_ns, [steps[i] for i in range(FQ_WAIT_STEPS)]

    def running(self, uint32_t slot):
        """(task's number, payload, flags, started_ns) of what a child runs, or None. For a reader that the ring does
        not wait for: what it reads may have been overwritten meanwhile, and then it is None as well."""
        cdef fq_slot* child = self.segment.slot(slot)
        cdef uint32_t ring = self.segment.header.task_bytes
        cdef uint64_t began = load64(&child.started_ns), done = load64(&child.done_count), at = load64(&child.task_tail)
        cdef uint64_t head = load64(&child.task_head)
        cdef fq_frame* frame = NULL
        if began == 0 or (load64(&child.gate) & ~FQ_RECALL) != done + 1:
            return None
        while at < head:
            frame = <fq_frame*>(self.segment.tasks(child) + at % ring)
            if frame.kind != FQ_PAD:
                break
            if frame.size < 8:
                return None
            at += frame.size
        if at >= head or frame.kind != FQ_TASK or at % ring + sizeof(fq_frame) + frame.payload_len > ring:
            return None
        found = frame.task, (<char*>frame + sizeof(fq_frame))[: frame.payload_len], frame.flags, began
        return found if load64(&child.done_count) == done else None

    def oldest(self, uint32_t slot):
        """Of what a child has in flight, what began first: (task's name, id, started_ns); None: it runs one task at a
        time, or none. An id that is not plain to read is empty."""
        cdef fq_slot* child = self.segment.slot(slot)
        cdef fq_berth* berths = self.segment.berths(slot)
        cdef fq_berth found
        cdef uint32_t i
        cdef uint64_t began = 0
        for i in range(min(load32(&child.berths), FQ_BERTHS)):
            if load64(&berths[i].frame) and berths[i].kind == FQ_TASK and (not began or berths[i].started_ns < began):
                found = berths[i]
                began = found.started_ns
        if not began or found.row >= FQ_TASK_ROWS or found.id_len > FQ_ID:
            return None
        names = self.tasks()
        return names[found.row] if found.row < <uint32_t>len(names) else b"?", (<char*>found.id)[: found.id_len], began
