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
                free(self.hands[i].entries)
                free(self.hands[i].places)
        free(self.hands)

    def reusable(self, uint32_t child):
        """Whether nothing in a slot is needed any more."""
        cdef Hand* hand = &self.hands[child]
        return not hand.used and hand.freed == hand.count

    def set_depth(self, uint32_t child, uint32_t depth):
        """How many frames a child may hold that it has not started; 0: one, if it is idle."""
        self.hands[child].depth = depth

    def set_depths(self, uint32_t depth):
        cdef uint32_t i
        for i in range(self.top):
            self.hands[i].depth = depth

    def load(self, uint32_t child):
        """(dealt and unstarted, running, nanoseconds that the running task has taken) of a child, as seen now."""
        cdef Hand* hand = &self.hands[child]
        cdef uint64_t began, now
        if not hand.used:
            return 0, False, 0
        began, now = load64(&hand.slot.started_ns), monotonic_ns()
        started = load64(&hand.slot.gate) & ~FQ_RECALL
        return hand.count - started, began != 0, now - began if 0 < began < now else 0

    def running(self, uint32_t child):
        """(frame number, entry, kind, task, soft_s, hard_s, started_ns) of what a child runs, or None."""
        cdef Hand* hand = &self.hands[child]
        cdef uint64_t began, number
        cdef fq_frame* frame
        if not hand.used:
            return None
        number = load64(&hand.slot.done_count)
        began = load64(&hand.slot.started_ns)
        if began == 0 or (load64(&hand.slot.gate) & ~FQ_RECALL) != number + 1:
            return None
        frame = <fq_frame*>(hand.tasks + hand.places[number & (IN_FLIGHT - 1)] % self.header.task_bytes)
        return number, frame.entry, frame.kind, frame.task, frame.soft_s, frame.hard_s, began

    def running_payload(self, uint32_t child):
        """(flags, payload) of the frame that a child runs: meaningful right after `running`."""
        cdef Hand* hand = &self.hands[child]
        cdef uint64_t number = load64(&hand.slot.done_count)
        cdef fq_frame* frame = <fq_frame*>(hand.tasks + hand.places[number & (IN_FLIGHT - 1)] % self.header.task_bytes)
        return frame.flags, (<char*>frame + sizeof(fq_frame))[: frame.payload_len]

    def aim_soft_limit(self, uint32_t child, uint64_t number):
        """Say which frame the signal that follows is meant for."""
        store64(&self.hands[child].slot.soft_target, number + 1)

    def unstarted(self):
        """Frames dealt and not started, in all rings."""
        cdef uint32_t i
        cdef uint64_t n = 0
        for i in range(self.top):
            if self.hands[i].used:
                n += self.hands[i].count - (load64(&self.hands[i].slot.gate) & ~FQ_RECALL)
        return n

    def pace(self):
        """(frames finished, nanoseconds spent in them, nanoseconds that the longest task has been running), of all living
        children."""
        cdef uint32_t i
        cdef uint64_t done = 0, spent = 0, longest = 0, began, now = monotonic_ns()
        for i in range(self.top):
            if self.hands[i].used:
                began = load64(&self.hands[i].slot.started_ns)
                done += load64(&self.hands[i].slot.done_count)
                spent += load64(&self.hands[i].slot.busy_ns)
                if 0 < began < now and now - began > longest:
                    longest = now - began
        return done, spent, longest

    def running_late(self):
        """How many children run a late acknowledged task: those messages count as held."""
        cdef uint32_t i, n = 0
        cdef uint64_t done
        cdef fq_frame* frame
        for i in range(self.top):
            if not self.hands[i].used or load64(&self.hands[i].slot.started_ns) == 0:
                continue
            done = load64(&self.hands[i].slot.done_count)
            if (load64(&self.hands[i].slot.gate) & ~FQ_RECALL) <= done:
                continue
            frame = <fq_frame*>(self.hands[i].tasks
                                + self.hands[i].places[done & (IN_FLIGHT - 1)] % self.header.task_bytes)
            n += frame.flags & FQ_LATE
        return n

    def idle(self):
        """How many children are ready and have nothing to do."""
        cdef uint32_t i, n = 0
        for i in range(self.top):
            if self.hands[i].used and load32(&self.hands[i].slot.state) == FQ_READY:
                n += self.hands[i].count == load64(&self.hands[i].slot.done_count)
        return n

    def busy(self):
        """Frames dealt and not finished, in all rings (takes no notice of results that have not been collected)."""
        cdef uint32_t i
        cdef uint64_t n = 0
        for i in range(self.top):
            if self.hands[i].used:
                n += self.hands[i].count - self.hands[i].done
        return n
