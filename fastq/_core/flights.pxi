# Many tasks of one ring in flight in one child: what an event loop needs instead of one current task.
#
# Rules, beside those of the rings:
# 6. A frame is copied out and entered in a berth before the gate is moved over it. From then on the child does not need
#    its place in the ring: `task_tail` and `done_count` count what has been taken out, not what has ended.
# 7. An end is an outcome, always, with the frame's own number and entry; then it is counted, then its berth is free.
#    Ends come in any order, and none waits for another.

@cython.final
cdef class Flight:
    """One started task among others: the door of its frame. Made by `Flights.take`; ended once, by `finish` or
    `outcome`: a second end gets a RuntimeError."""
    cdef Flights deck
    cdef fq_berth* berth
    cdef readonly uint64_t number, started_ns
    cdef uint32_t entry
    cdef readonly int kind, flags
    cdef readonly uint32_t task
    cdef readonly double expires
    cdef fq_frame head
    cdef bytes data
    cdef int how
    cdef readonly bint over, held
    cdef Buffer later
    cdef uint32_t later_count

    def __init__(self, *args, **kwargs):
        raise TypeError("a Flight is made by Flights.take")

    def __dealloc__(self):
        free(self.later.data)

    def payload(self):
        """The envelope as claimed; for a verdict its length, the verdict, the envelope."""
        if self.flags & FQ_SIDE:
            with open(_os.fsdecode(self.data), "rb") as file:
                return file.read()
        return self.data

    @property
    def queue(self):
        """The queue that it was claimed from, as bytes; empty if it has no row on the board."""
        return queue_of_key(self.deck.port.segment.board(), self.head.claim_key)

    @property
    def limits(self):
        """(soft, hard) seconds, 0.0 for none."""
        return self.head.soft_s, self.head.hard_s

    @property
    def port(self):
        """The door of the process."""
        return self.deck.port

    cdef inline ChildPort door(self):
        if self.over:
            raise RuntimeError("this task has ended already")
        return self.deck.port

    def hold(self):
        """It waits for its turn in this process: its limits are not over before it has begun."""
        self.held, self.berth.hard_s = True, 0

    def begin(self):
        """Now it begins, and so do its limits."""
        self.door()
        self.held, self.started_ns = False, monotonic_ns()
        store64(&self.berth.started_ns, self.started_ns)
        self.berth.hard_s = <float>self.head.hard_s

    def note_end(self, int end):
        """Say how the task ends (SUCCEEDED, FAILED, ...), before it is ended. Not said: it has succeeded."""
        if end < 0 or end >= FQ_ENDS:
            raise ValueError(f"no way for a task to end is numbered {end}")
        self.how = end

    def finish(self):
        """End the task with nothing to report."""
        self.outcome(ACK_OUTCOME, 0, b"")

    def outcome(self, uint32_t outcome, uint32_t commands, bytes data not None):
        """Report how the task ended, as `ChildPort.outcome` does, and end it. The engine hears of it with `tell`."""
        self.end(outcome, commands, <char*>data, len(data))

    cdef int end(self, uint32_t outcome, uint32_t commands, const char* data, size_t n) except -1:
        cdef ChildPort port = self.door()
        port.send_of(FQ_OUTCOME, self.entry, self.number, outcome, commands, data, n)
        if self.later.size:
            port.send_of(FQ_EVENT, self.entry, self.number, 0, self.later_count, self.later.data, self.later.size)
            self.later.size = 0
        return self.deck.clear(self)

    def store(self, uint32_t commands, bytes data not None):
        """Send RESP commands to the result store in the middle of the task."""
        cdef ChildPort port = self.door()
        port.send_of(FQ_STORE, self.entry, self.number, 0, commands, <char*>data, len(data))
        port.tell()

    def event(self, bytes data not None, *, bint now=False):
        """Tell monitors something of the task, with its end, or `now`."""
        cdef ChildPort port = self.door()
        if now:
            port.send_of(FQ_EVENT, self.entry, self.number, 0, 1, <char*>data, len(data))
            return
        if self.later.size:
            put(&self.later, b", ", 2)
        self.later_count += 1
        put(&self.later, <char*>data, len(data))

    @property
    def telling(self):
        """Whether what happens to tasks is to be told to monitors."""
        return self.deck.port.telling

    @property
    def engine_pid(self):
        return self.deck.port.engine_pid

    @property
    def worker(self):
        return self.deck.port.worker

    def pen(self, head):
        """What writes this child's events."""
        return self.deck.port.pen(head)

    def know_tasks(self, list names not None):
        """As the process's door."""
        self.deck.port.know_tasks(names)

    def soft_limit_hits(self):
        """False: in an event loop no signal interrupts a task."""
        return False

    def memory_limit_hits(self):
        """False, likewise."""
        return False


@cython.final
cdef class Flights:
    """The tasks that a child has in flight, at most `limit`. Used by one thread, that of the event loop."""
    cdef readonly ChildPort port
    cdef readonly uint32_t limit, count
    cdef readonly uint64_t executed
    cdef fq_slot* slot
    cdef fq_berth* berths
    cdef uint64_t heard                     # wishes that have been looked at
    cdef list flights                       # by berth
    cdef uint32_t[1024] free_berths
    cdef uint32_t free_count

    def __init__(self, ChildPort port not None, uint32_t limit):
        cdef uint32_t i
        if not 1 <= limit <= min(FQ_BERTHS, port.slot.berths):
            raise ValueError(f"{limit} tasks in flight, where there are {port.slot.berths} berths")
        self.port, self.limit, self.slot = port, limit, port.slot
        self.berths = port.segment.berths(port.index)
        self.flights = [None] * limit
        self.free_count = limit
        for i in range(limit):
            self.free_berths[i] = limit - 1 - i

    def take(self, uint32_t most=0xFFFFFFFF):
        """Start what has been dealt, as far as the limit allows, and not more than `most`. Returns the started ones, in
        order."""
        cdef list out = []
        cdef Flight flight
        cdef uint64_t before = self.port.number
        while self.count < self.limit and <uint32_t>len(out) < most and self.port.find():
            flight = self.start()
            if flight is not None:
                out.append(flight)
        if before != self.port.number:
            store32(&self.slot.in_flight, self.count)
            fq_step()
            store64(&self.slot.task_tail, self.port.at)
            fq_step()
            store64(&self.slot.done_count, self.port.number)
            fq_step()
            fq_check(self.port.at <= self.slot.task_head, b"a child has taken more than was written")
        return out

    cdef Flight start(self):
        # The frame that was found, or None if the engine had taken it back. Nothing can fail behind the gate.
        cdef fq_frame* frame = self.port.frame
        cdef uint32_t size = frame.size, place = self.free_berths[self.free_count - 1]
        cdef fq_berth* berth = &self.berths[place]
        cdef Flight flight = self.make(frame, berth)
        self.enter(berth, frame, flight)
        fq_step()
        while not cas64(&self.slot.gate, self.port.number, self.port.number + 1):
            sched_yield()
        fq_step()
        self.port.number += 1
        self.port.at += size
        self.port.frame = NULL
        if frame.kind == FQ_VOID:
            store64(&berth.frame, 0)
            flight.over = True
            return None
        store64(&self.slot.started_ns, flight.started_ns)
        if flight.kind == FQ_TASK:
            count_start(&self.port.tally, frame, flight.started_ns)
        self.free_count -= 1
        self.flights[place] = flight
        self.count += 1
        return flight

    cdef Flight make(self, fq_frame* frame, fq_berth* berth):
        cdef Flight flight = Flight.__new__(Flight)
        flight.deck, flight.berth = self, berth
        flight.number, flight.entry, flight.started_ns = self.port.number, frame.entry, monotonic_ns()
        flight.kind, flight.flags, flight.task = frame.kind, frame.flags, frame.task
        flight.head, flight.expires = frame[0], frame.expires
        flight.data = (<char*>frame + sizeof(fq_frame))[: frame.payload_len]
        flight.how = FQ_SUCCEEDED
        return flight

    cdef void enter(self, fq_berth* berth, fq_frame* frame, Flight flight) noexcept nogil:
        berth.started_ns = flight.started_ns
        berth.claim_n, berth.claim_key, berth.claim_pos = frame.claim_n, frame.claim_key, frame.claim_pos
        berth.entry, berth.task, berth.kind, berth.flags = frame.entry, frame.task, frame.kind, frame.flags
        berth.soft_s, berth.hard_s = <float>frame.soft_s, <float>frame.hard_s
        berth.id_len = <uint16_t>min(frame.id_len, FQ_ID) if not frame.flags & FQ_SIDE else 0
        berth.row = self.port.tally.rows[frame.task] if frame.task < self.port.tally.known else 0
        memcpy(berth.id, <char*>frame + sizeof(fq_frame) + frame.id_at, berth.id_len)
        fq_step()
        store64(&berth.frame, flight.number + 1)

    cdef int clear(self, Flight flight) except -1:
        # Its outcome has been published.
        cdef uint64_t spent = monotonic_ns() - flight.started_ns
        cdef uint32_t place = <uint32_t>(flight.berth - self.berths)
        fq_step()
        self.slot.busy_ns += spent
        if flight.kind == FQ_TASK:
            self.port.tally.end = flight.how
            count_end(&self.port.tally, self.slot, flight.task, flight.number + 1, spent)
            self.executed += 1
            self.slot.executed += 1
        fq_step()
        store64(&flight.berth.frame, 0)
        fq_step()
        flight.over = True
        self.flights[place] = None
        self.free_berths[self.free_count] = place
        self.free_count += 1
        self.count -= 1
        store32(&self.slot.in_flight, self.count)
        if self.count == 0:
            store64(&self.slot.started_ns, 0)
        return 0

    cdef inline bint called(self) noexcept nogil:
        # Whether there is something to do that does not wait for an end.
        return (load32(&self.slot.command) != 0 or load64(&self.slot.wishes) != self.heard
                or (self.count < self.limit and self.port.at != load64(&self.slot.task_head)))

    def rest(self):
        """The loop may sleep after this: the eventfd wakes it. False: there is something to do already."""
        if self.called():
            return False
        if self.count == self.limit:
            return True             # more frames are of no use; what else there is wakes in any case
        fq_step()
        announce32(&self.slot.child_wait, FQ_IN_LOOP)
        fq_step()
        if not self.called():
            return True
        store32(&self.slot.child_wait, FQ_UP)
        return False

    def tell(self):
        """Let the engine hear of what has ended: once for all of a loop's turn."""
        cdef bint empty = self.count < self.limit and self.port.at == load64(&self.slot.task_head)
        if empty:
            wake_engine(self.port.segment.header, self.port.eventfd, True)
        else:
            self.port.tell()

    def wishes(self):
        """What the engine wants ended since the last call: (flight, whether by its soft limit) each."""
        cdef list found = []
        cdef uint64_t made = load64(&self.slot.wishes), wish
        cdef uint32_t i
        if made == self.heard:
            return found
        self.heard = made
        for i in range(self.limit):
            wish = load64(&self.berths[i].wish)
            if wish and self.flights[i] is not None and wish & ~FQ_SOFTLY == (<Flight>self.flights[i]).number + 1:
                found.append((self.flights[i], (wish & FQ_SOFTLY) != 0))
        return found

    @property
    def in_flight(self):
        """All of them."""
        return [flight for flight in self.flights if flight is not None]
