# The child's end of its two rings. (The engine's end is the ledger's: ledger.pxi.)
#
# Rules:
# 1. One producer, one consumer. A frame is written whole, then published by one release store of the head. A writer
#    killed before that store has written nothing; killed after it, everything.
# 2. A frame never wraps. What does not fit before the end goes to the beginning, behind a pad.
# 3. A task is started by a compare-and-swap of `gate` from n to n + 1. The engine takes unstarted frames back by
#    setting FQ_RECALL there: from that instant n stands still, frames from n on are the engine's, it marks them void,
#    and clears the bit. A child that meets the bit waits for those microseconds; it finds voids and passes over them.
# 4. The result is published before `done_count` moves. So an engine that reads `done_count` first, and the result ring
#    afterwards, misses no result; and a child killed between the two has left its result behind.
# 5. The engine overwrites a frame only when the broker has confirmed what it settled (acked_head), not when the child
#    is through with it (task_tail): a restorer must still find it. Room is given free up to the end of such a frame,
#    never up to the beginning of the next: a pad between the two has not been passed by the child.

from cpython.exc cimport PyErr_CheckSignals

cdef enum:
    ACK_OUTCOME = 1
    SIDE_SHARE = 2      # A payload over 1/SIDE_SHARE of its ring goes to a side file.


@cython.final
cdef class ChildPort:
    """A child's door to the engine: tasks in, outcomes out. Used by one thread.

    `wait` blocks; `start` takes the task that it found; then exactly one of `finish` and `outcome`. Whoever asks for a
    task, or ends one, where there is none gets a RuntimeError.
    """
    cdef Segment segment
    cdef fq_slot* slot
    cdef fq_frame* frame
    cdef char* task_ring
    cdef char* result_ring
    cdef uint64_t at, number
    cdef uint32_t index, task_bytes, result_bytes
    cdef int eventfd
    cdef object side_prefix
    cdef uint32_t side_count
    cdef Tally tally
    cdef Buffer later                   # events that follow the outcome of the current task
    cdef uint32_t later_count

    def __cinit__(self, Segment segment not None, uint32_t index, int eventfd, str side_prefix not None):
        self.segment, self.index, self.eventfd, self.side_prefix = segment, index, eventfd, side_prefix
        self.slot = segment.slot(index)
        self.task_ring, self.result_ring = segment.tasks(self.slot), segment.results(self.slot)
        self.task_bytes, self.result_bytes = segment.header.task_bytes, segment.header.result_bytes
        self.at, self.number = self.slot.task_tail, self.slot.done_count
        open_tally(&self.tally, segment, index)

    def __dealloc__(self):
        free(self.tally.rows)
        free(self.later.data)

    def know_tasks(self, list names not None):
        """Tell the port the tasks' names (bytes) in the order of their numbers, so that each is counted by itself."""
        name_rows(&self.tally, names)

    def note_end(self, int end):
        """Say how the current task ends (SUCCEEDED, FAILED, ...), before it is ended. Not said: it has succeeded."""
        if end < 0 or end >= FQ_ENDS:
            raise ValueError(f"no way for a task to end is numbered {end}")
        self.tally.end = end

    def ready(self, uint32_t pid):
        """Tell the engine that this child takes tasks now."""
        store32(&self.slot.pid, pid)
        store32(&self.slot.state, FQ_READY)
        wake_engine(self.segment.header, self.eventfd, True)

    cdef inline fq_frame* current(self) except NULL:
        if self.frame == NULL:
            raise RuntimeError("no task has been found: call wait and start first")
        return self.frame

    def retire(self):
        """Tell the engine to deal nothing more here: this child leaves."""
        store32(&self.slot.state, FQ_RETIRING)
        wake_engine(self.segment.header, self.eventfd, True)

    cdef inline bint find(self) noexcept nogil:
        # The next frame that is no pad, or False. Acquire: the frame's bytes come with the head.
        while self.at != load64(&self.slot.task_head):
            self.frame = <fq_frame*>(self.task_ring + self.at % self.task_bytes)
            if self.frame.kind != FQ_PAD:
                return True
            self.at += self.frame.size
        self.frame = NULL
        return False

    def wait(self, double timeout_s=-1.0):
        """Block until there is a frame (1), the engine wants this child to leave (2), or a signal came or the time is
        over (0). Lets other threads run meanwhile. Handlers of signals that have come are run before it sleeps."""
        cdef timespec limit
        cdef const timespec* until = NULL
        if self.find():
            return 1
        if load32(&self.slot.command):
            return 2
        if timeout_s >= 0:
            limit.tv_sec = <long>timeout_s
            limit.tv_nsec = <long>((timeout_s - limit.tv_sec) * 1e9)
            until = &limit
        # A signal that came after the caller's last Python code would be heard only after the sleep.
        PyErr_CheckSignals()
        with nogil:
            fq_step()
            announce32(&self.slot.child_wait, FQ_IN_FUTEX)
            fq_step()
            if self.at == load64(&self.slot.task_head) and not load32(&self.slot.command):
                wake_engine(self.segment.header, self.eventfd, True)
                fq_step()
                futex_wait(&self.slot.child_wait, FQ_IN_FUTEX, until)
                fq_step()
            store32(&self.slot.child_wait, FQ_UP)
        return 1 if self.find() else 2 if load32(&self.slot.command) else 0

    cdef inline bint take(self) noexcept nogil:
        # Start the frame that `find` found; False if the engine had taken it back (then it is passed over).
        fq_step()
        while not cas64(&self.slot.gate, self.number, self.number + 1):
            sched_yield()
        fq_step()
        if self.frame.kind == FQ_VOID:
            self.leave()
            return False
        store64(&self.slot.started_ns, monotonic_ns())
        fq_step()
        self.tally.end = FQ_SUCCEEDED
        if self.frame.kind == FQ_TASK:
            count_start(&self.tally, self.frame, self.slot.started_ns)
        return True

    cdef inline void leave(self) noexcept nogil:
        # The current frame is finished; its result, if any, has been published before. `done_count` last: whoever has
        # read it finds no time of this frame in `started_ns`, which would be counted against the next.
        cdef uint64_t spent
        self.at += self.frame.size
        self.number += 1
        fq_step()
        if self.slot.started_ns:
            spent = monotonic_ns() - self.slot.started_ns
            self.slot.busy_ns += spent
            fq_step()
            if self.frame.kind == FQ_TASK:
                count_end(&self.tally, self.slot, self.frame.task, self.number, spent)
            store64(&self.slot.started_ns, 0)
        self.frame = NULL
        fq_step()
        store64(&self.slot.task_tail, self.at)
        fq_step()
        store64(&self.slot.done_count, self.number)
        fq_step()
        fq_check(self.at <= self.slot.task_head, b"a child has finished more than was written")

    def start(self):
        """Start the task that `wait` found. False: the engine had taken it back; wait again."""
        self.current()
        return self.take()

    def finish(self):
        """End the current task with nothing to report."""
        self.current()
        if self.later.size:
            self.send(FQ_OUTCOME, ACK_OUTCOME, 0, b"", 0)       # see send_later
            self.send_later()
        self.leave()
        self.tell()

    cdef inline void tell(self) noexcept nogil:
        # Results wait in the ring for the engine; it asks to be woken only when it can use them.
        cdef bint hungry = self.slot.result_head - load64(&self.slot.result_tail) > self.result_bytes // 2
        wake_engine(self.segment.header, self.eventfd, hungry)

    cdef fq_result* reserve(self, uint32_t payload_len) noexcept nogil:
        # Room for a result frame, contiguous; NULL while the engine has not read enough.
        cdef uint32_t size = _align8(sizeof(fq_result) + payload_len)
        cdef uint64_t head = self.slot.result_head
        cdef uint32_t place = <uint32_t>(head % self.result_bytes)
        cdef uint32_t pad = self.result_bytes - place if place + size > self.result_bytes else 0
        cdef fq_result* frame
        if head + pad + size - load64(&self.slot.result_tail) > self.result_bytes:
            return NULL
        if pad:
            frame = <fq_result*>(self.result_ring + place)
            fq_step()
            frame.size, frame.kind = pad, FQ_PAD
            fq_step()
            store64(&self.slot.result_head, head + pad)
            fq_step()
            place = 0
        frame = <fq_result*>(self.result_ring + place)
        frame.size, frame.payload_len, frame.flags = size, payload_len, 0
        return frame

    cdef fq_result* make_room(self, uint32_t payload_len) except NULL:
        # As `reserve`, but sleeps until there is room. Handlers of signals wait: a result that has been made is sent
        # before anything can end this process, and the engine makes room within one turn of its loop.
        cdef fq_result* frame = self.reserve(payload_len)
        while frame == NULL:
            with nogil:
                fq_step()
                announce32(&self.slot.result_wait, 1)
                fq_step()
                frame = self.reserve(payload_len)
                if frame == NULL:
                    wake_engine(self.segment.header, self.eventfd, True)
                    fq_step()
                    futex_wait(&self.slot.result_wait, 1, NULL)
                    frame = self.reserve(payload_len)
                store32(&self.slot.result_wait, 0)
        return frame

    cdef inline void publish(self, fq_result* frame) noexcept nogil:
        fq_step()
        store64(&self.slot.result_head, self.slot.result_head + frame.size)
        fq_step()
        fq_check(self.slot.result_head - self.slot.result_tail <= self.result_bytes, b"a result ring is overrun")

    cdef inline int send(self, int kind, uint32_t outcome, uint32_t commands, const char* data, size_t n) except -1:
        cdef uint32_t entry = self.frame.entry if self.frame != NULL else 0xFFFFFFFF
        return self.send_of(kind, entry, self.number, outcome, commands, data, n)

    cdef int send_of(self, int kind, uint32_t entry, uint64_t number, uint32_t outcome, uint32_t commands,
                     const char* data, size_t n) except -1:
        # Of the task frame with this number.
        cdef fq_result* frame
        cdef bytes path
        cdef uint16_t flags = 0
        # In an empty ring, a frame and a pad before it take less than twice the frame's size.
        if sizeof(fq_result) + n + 8 > self.result_bytes // SIDE_SHARE:
            path = self.spill(data, n)
            data, n, flags = <char*>path, len(path), FQ_SIDE
            frame = self.make_room(<uint32_t>n)
            memcpy(<char*>frame + sizeof(fq_result), data, n)
        else:
            frame = self.make_room(<uint32_t>n)
            memcpy(<char*>frame + sizeof(fq_result), data, n)
        fq_step()
        frame.kind, frame.flags, frame.outcome, frame.commands = kind, flags, outcome, commands
        frame.entry, frame.number = entry, number
        self.publish(frame)
        return 0

    cdef bytes spill(self, const char* data, size_t n):
        # A payload too large for the ring: the engine reads the file and removes it.
        self.side_count += 1
        return write_side(self.side_prefix, f".r{self.index}.{self.number}.{self.side_count}", data[:n])

    def outcome(self, uint32_t outcome, uint32_t commands, bytes data not None):
        """Report how the current task ended (ACK, REJECT, REQUEUE) and end it.

        `data`: for ACK and REJECT, `commands` RESP commands for the result store; for REQUEUE the message to push back.
        May block while the result ring is full.
        """
        self.current()
        self.send(FQ_OUTCOME, outcome, commands, <char*>data, len(data))
        self.send_later()
        self.leave()
        self.tell()

    def store(self, uint32_t commands, bytes data not None):
        """Send RESP commands to the result store in the middle of a task."""
        self.send(FQ_STORE, 0, commands, <char*>data, len(data))
        self.tell()

    @property
    def telling(self):
        """Whether what happens to tasks is to be told to monitors."""
        return load32(&self.segment.header.events) != 0

    @property
    def engine_pid(self):
        return self.segment.header.engine_pid

    @property
    def worker(self):
        """The unique name of this worker, as the broker's registry has it."""
        return self.segment.worker

    def pen(self, head):
        """What writes this child's events; `head` as with EventPen."""
        return EventPen(self.segment, head)

    def event(self, bytes data not None, *, bint now=False):
        """Tell monitors something of the current task: an event as `EventPen` writes it. It goes out with the end of
        the task, `now` at once. The engine is not woken for it: it looks at what has been started by itself."""
        if now:
            self.send(FQ_EVENT, 0, 1, <char*>data, len(data))
        else:
            self.keep_event(<char*>data, len(data))

    cdef int keep_event(self, const char* data, size_t n) except -1:
        self.next_event()
        return put(&self.later, data, n)

    cdef inline int next_event(self) except -1:
        # One more event is about to be written to `later`.
        if self.later.size:
            put(&self.later, b", ", 2)
        self.later_count += 1
        return 0

    cdef int send_later(self) except -1:
        # Behind the outcome, so that nobody hears of an end that the engine has to take back: a child that dies before
        # its outcome has not ended its task. Before the frame is left, so that who has read `done_count` misses none.
        if self.later.size:
            self.send(FQ_EVENT, 0, self.later_count, self.later.data, self.later.size)
            self.later.size = self.later_count = 0
            shrink(&self.later)
        return 0

    def payload(self):
        """The current frame's payload: the envelope as claimed; for a verdict its length, the verdict, the envelope."""
        cdef fq_frame* frame = self.current()
        cdef char* data = <char*>frame + sizeof(fq_frame)
        if frame.flags & FQ_SIDE:
            with open(_os.fsdecode(data[: frame.payload_len]), "rb") as file:
                return file.read()
        return data[: frame.payload_len]

    def soft_limit_hits(self):
        """Whether the soft time limit that the engine signalled is meant for the task that runs now."""
        return self.slot.started_ns != 0 and load64(&self.slot.soft_target) == self.number + 1

    def memory_limit_hits(self):
        """The same for the memory limit."""
        return self.slot.started_ns != 0 and load64(&self.slot.soft_target) == (self.number + 1 | FQ_MEMORY)

    def count_executed(self):
        self.slot.executed += 1

    @property
    def kind(self):
        return self.current().kind

    @property
    def flags(self):
        return self.current().flags

    @property
    def queue(self):
        """The queue that the current frame was claimed from, as bytes; empty if it has no row on the board."""
        return queue_of_key(self.segment.board(), self.current().claim_key)

    @property
    def task(self):
        """Index into the program's task table; NO_TASK if the engine did not know the name."""
        return self.current().task

    @property
    def expires(self):
        return self.current().expires

    @property
    def limits(self):
        """(soft, hard) seconds, 0.0 for none."""
        return self.current().soft_s, self.current().hard_s

    @property
    def stopping(self):
        return load32(&self.slot.command) != FQ_STAY

    @property
    def ending(self):
        """Whether the engine sends this child a signal that is to end it."""
        return load32(&self.slot.command) == FQ_END

    def heard(self, uint32_t number):
        """How often the engine has got this signal."""
        return load32(&self.segment.header.heard[number]) if number < FQ_SIGNALS else 0


def write_side(str prefix not None, str suffix not None, bytes payload not None):
    """Write a payload that is too large for a ring to a file that only this user can read: beside the segment, or, if
    that is full, among the temporary files. Returns its path as bytes; raises OSError if there is no room anywhere."""
    cdef str path = prefix + suffix
    try:
        write_private(path, payload)
    except OSError:
        import tempfile  # as rarely as this happens: a probe imports this module, too

        path = _os.path.join(tempfile.gettempdir(), _os.path.basename(path))
        write_private(path, payload)
    return _os.fsencode(path)


cdef int write_private(str path, bytes payload) except -1:
    fd = _os.open(path, _os.O_WRONLY | _os.O_CREAT | _os.O_EXCL | _os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(payload)
    except OSError:
        _os.unlink(path)
        raise
    return 0
