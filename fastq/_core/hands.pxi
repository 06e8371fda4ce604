# What the engine knows of its children, and what it may ask of them at any time.

cdef class _Hands(_Claims):
    """The engine's view of the slots that have ever been used."""
    cdef Hand* hands
    cdef uint32_t slots
    cdef uint32_t top                          # slots that have ever been used

    def __cinit__(self, Segment segment not None, *_rest):
        self.slots = segment.header.slots
        self.hands = <Hand*>malloc(self.slots * sizeof(Hand))
        if self.hands == NULL:
            raise MemoryError()
        memset(self.hands, 0, self.slots * sizeof(Hand))

    def __dealloc__(self):
        cdef uint32_t i
        if self.hands != NULL:
            for i in range(self.slots):
                free(self.hands[i].places)
        free(self.hands)

    cdef Hand* hand(self, uint32_t child) except NULL:
        if child >= self.slots:
            raise IndexError(f"slot {child} of {self.slots}")
        return &self.hands[child]

    cdef inline fq_frame* frame_at(self, Hand* hand, uint64_t number) noexcept nogil:
        # A frame that has been written and whose settlement the broker has not confirmed.
        return <fq_frame*>(hand.tasks + hand.places[number & (IN_FLIGHT - 1)] % self.header.task_bytes)

    cdef inline uint64_t voids(self, Hand* hand, uint64_t number) noexcept nogil:
        # How many frames from `number` on have been taken back. A child passes over them in no time; while it runs a
        # long task they lie there, and must not count as work.
        if number >= hand.void_to:
            return 0
        return hand.void_to - (number if number > hand.void_from else hand.void_from)

    cdef inline uint64_t gate_of(self, Hand* hand) noexcept nogil:
        return load64(&hand.slot.gate) & ~FQ_RECALL

    def reusable(self, uint32_t child):
        """Whether nothing in a slot is needed any more."""
        cdef Hand* hand = self.hand(child)
        return not hand.used and hand.freed == hand.count

    def bench(self, uint32_t child, bint waits):
        """Deal nothing to a child, for now: it waits until another one has left. Or: it has."""
        self.hand(child).leaving = waits

    def set_depth(self, uint32_t child, uint32_t depth):
        """How many frames a child may hold that it has not started; 0: one, if it is idle."""
        self.hand(child).depth = depth

    def set_depths(self, uint32_t depth):
        """The same for all children."""
        cdef uint32_t i
        for i in range(self.top):
            self.hands[i].depth = depth

    def load(self, uint32_t child):
        """(dealt and unstarted, running, nanoseconds that the running task has taken) of a child, as seen now."""
        cdef Hand* hand = self.hand(child)
        cdef uint64_t began, now, started
        if not hand.used:
            return 0, False, 0
        started = self.gate_of(hand)
        began, now = load64(&hand.slot.started_ns), monotonic_ns()
        unstarted = hand.count - started - self.voids(hand, started)
        return unstarted, began != 0, now - began if 0 < began < now else 0

    def running(self, uint32_t child):
        """(frame number, entry, kind, task, soft_s, hard_s, started_ns) of what a child runs, or None."""
        cdef Hand* hand = self.hand(child)
        cdef uint64_t began, number
        cdef fq_frame* frame
        if not hand.used:
            return None
        # In this order: the time is that of the frame that the gate speaks of, or of one that began later.
        number = load64(&hand.slot.done_count)
        if self.gate_of(hand) != number + 1:
            return None
        began = load64(&hand.slot.started_ns)
        if began == 0:
            return None
        frame = self.frame_at(hand, number)
        return number, frame.entry, frame.kind, frame.task, frame.soft_s, frame.hard_s, began

    def running_payload(self, uint32_t child, uint64_t number):
        """(flags, payload) of a frame that `running` has named, before anything else is collected or flushed."""
        cdef Hand* hand = self.hand(child)
        cdef fq_frame* frame
        if not hand.used or not hand.done <= number < hand.count:
            raise ValueError(f"child {child} does not run frame {number}")
        frame = self.frame_at(hand, number)
        return frame.flags, (<char*>frame + sizeof(fq_frame))[: frame.payload_len]

    def aim_soft_limit(self, uint32_t child, uint64_t number):
        """Say which frame the signal that follows is meant for."""
        cdef Hand* hand = self.hand(child)
        if hand.used:
            store64(&hand.slot.soft_target, number + 1)

    def aim_memory_limit(self, uint32_t child, uint64_t number):
        """The same for the memory limit."""
        cdef Hand* hand = self.hand(child)
        if hand.used:
            store64(&hand.slot.soft_target, number + 1 | FQ_MEMORY)

    def executed(self, uint32_t child):
        """Tasks that the present child of a slot has executed."""
        cdef Hand* hand = self.hand(child)
        return load64(&hand.slot.executed) if hand.used else 0

    def late_running(self):
        """Where the late acknowledged messages lie that children run now: (key number, claim list number, position).
        Should this worker die, those are the ones that may have killed it."""
        cdef list found = []
        cdef uint32_t i
        cdef uint64_t done
        cdef Hand* hand
        cdef fq_frame* frame
        for i in range(self.top):
            hand = &self.hands[i]
            if not hand.used or load64(&hand.slot.started_ns) == 0:
                continue
            done = load64(&hand.slot.done_count)
            if self.gate_of(hand) > done:
                frame = self.frame_at(hand, done)
                if frame.flags & FQ_LATE and frame.kind == FQ_TASK:
                    found.append((frame.claim_key, frame.claim_n, frame.claim_pos))
        return found

    def unstarted(self):
        """Frames dealt and neither started nor taken back, in all rings."""
        cdef uint32_t i
        cdef uint64_t n = 0, started
        for i in range(self.top):
            if self.hands[i].used:
                started = self.gate_of(&self.hands[i])
                n += self.hands[i].count - started - self.voids(&self.hands[i], started)
        return n

    def busy(self):
        """Frames dealt and not finished, in all rings (takes no notice of results that have not been collected)."""
        cdef uint32_t i
        cdef uint64_t n = 0
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if hand.used:
                n += hand.count - hand.done - self.voids(hand, hand.done)
        return n

    def pace(self):
        """(tasks executed, nanoseconds spent in them, nanoseconds that the longest task has been running), of all
        living children."""
        cdef uint32_t i
        cdef uint64_t executed = 0, spent = 0, longest = 0, began, now = monotonic_ns()
        for i in range(self.top):
            if self.hands[i].used:
                began = load64(&self.hands[i].slot.started_ns)
                executed += load64(&self.hands[i].slot.executed)
                spent += load64(&self.hands[i].slot.busy_ns)
                if 0 < began < now and now - began > longest:
                    longest = now - began
        return executed, spent, longest

    def running_late(self):
        """How many children run a late acknowledged task: those messages count as held."""
        cdef uint32_t i, n = 0
        cdef uint64_t done
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if not hand.used or load64(&hand.slot.started_ns) == 0:
                continue
            done = load64(&hand.slot.done_count)
            if self.gate_of(hand) > done:
                n += self.frame_at(hand, done).flags & FQ_LATE
        return n

    def idle(self):
        """How many children are ready and have nothing to do."""
        cdef uint32_t i, n = 0
        cdef uint64_t done
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if hand.used and not hand.leaving and load32(&hand.slot.state) == FQ_READY:
                done = load64(&hand.slot.done_count)
                n += hand.count == done + self.voids(hand, done)
        return n
