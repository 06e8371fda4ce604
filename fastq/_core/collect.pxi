# What children have started, finished and sent.

cdef class _Collecting(_Resuming):
    """The reading end of the result rings, and how the engine sleeps until there is something in them."""
    cdef readonly uint64_t started
    cdef list rare                              # (entry, message) that children want requeued
    cdef list dead                              # (entry or None, key number, letter) that they want put aside

    def __cinit__(self, *_rest):
        self.rare, self.dead = [], []

    def take_dead(self):
        """Dead letters since the last call: (entry, key number, letter). The entry is in the caller's hands, to be
        requeued behind another list; None if there is nothing to acknowledge (see `push`)."""
        dead, self.dead = self.dead, []
        return dead

    def collect(self):
        """Read what the children have started, finished and sent. Returns requeues, rare: (entry, message)."""
        cdef uint32_t i
        for i in range(self.top):
            if self.hands[i].used:
                self.collect_from(&self.hands[i])
        if not self.rare:
            return []
        rare, self.rare = self.rare, []
        return rare

    cdef int collect_from(self, Hand* hand) except -1:
        cdef uint64_t done = load64(&hand.slot.done_count)          # before the results: see the rings' rule 4
        cdef uint64_t started = self.gate_of(hand)
        cdef uint64_t head = load64(&hand.slot.result_head)
        cdef uint32_t index
        hand.state = load32(&hand.slot.state)
        if hand.berths:
            return self.collect_flights(hand)
        while hand.started < started:
            index = hand.entries[hand.started & (IN_FLIGHT - 1)]
            if index != NONE:
                self.started += 1
                if not self.entries[index].late:
                    self.settle_entry(index)
            hand.started += 1
        if hand.slot.result_tail != head:
            self.collect_results(hand, head)
        while hand.done < done:
            self.finish(hand, hand.done)
            hand.done += 1
        return 0

    cdef int collect_results(self, Hand* hand, uint64_t head) except -1:
        cdef uint64_t tail = hand.slot.result_tail
        while tail != head:
            tail += self.collect_result(hand, tail)
        fq_step()
        store64(&hand.slot.result_tail, tail)
        wake_for_room(hand.slot)
        return 0

    cdef int collect_flights(self, Hand* hand) except -1:
        # The results first, then the gate: whatever has an outcome is seen to have been started.
        cdef uint64_t head = load64(&hand.slot.result_head)
        cdef uint64_t done = load64(&hand.slot.done_count)
        cdef uint64_t started = self.gate_of(hand)
        while hand.started < started:
            self.take_off(hand, hand.started)
            hand.started += 1
        hand.done = done
        if hand.slot.result_tail != head:
            self.collect_results(hand, head)
        return 0

    cdef int take_off(self, Hand* hand, uint64_t number) except -1:
        # A child has a frame in flight. A copy is kept for whoever has to say what it was, so that its room in the ring
        # waits only for what a restorer reads there: the start of an early acknowledged task.
        cdef uint32_t index = hand.entries[number & (IN_FLIGHT - 1)]
        cdef fq_frame* frame = self.frame_at(hand, number)
        cdef Entry* entry
        if index == NONE:
            return 0
        entry = &self.entries[index]
        entry.frame = <char*>malloc(frame.size)
        if entry.frame == NULL:
            raise MemoryError()
        memcpy(entry.frame, frame, frame.size)
        self.started += 1
        entry.flying, entry.gone = True, False
        hand.flying += 1
        hand.late += entry.late
        if entry.late:
            self.forget_place(index)
        else:
            self.settle_entry(index)
        return 0

    cdef inline uint32_t answered_by(self, Hand* hand, fq_result* frame) noexcept nogil:
        # The entry whose outcome this is; NONE: nobody's any more.
        cdef Entry* entry
        if not hand.berths:
            hand.answered = frame.number + 1
            return hand.entries[frame.number & (IN_FLIGHT - 1)]
        if frame.entry >= self.entry_room:
            return NONE
        entry = &self.entries[frame.entry]
        if not entry.flying or entry.number != frame.number or entry.child != <uint32_t>(hand - self.hands):
            return NONE
        return frame.entry

    cdef uint32_t collect_result(self, Hand* hand, uint64_t tail) except 0:
        # One frame at `tail`; returns its size.
        cdef fq_result* frame = <fq_result*>(hand.results + tail % self.header.result_bytes)
        cdef uint32_t size = frame.size
        cdef char* data = <char*>frame + sizeof(fq_result)
        cdef bytes side
        if frame.kind == FQ_PAD:
            return size
        if frame.flags & FQ_SIDE:
            side = self.read_side(data[: frame.payload_len])
            self.add_result(hand, frame, <char*>side, len(side))
            remove_file(data[: frame.payload_len])
        else:
            self.add_result(hand, frame, data, frame.payload_len)
        if hand.berths and frame.kind == FQ_OUTCOME and self.answered_by(hand, frame) != NONE:
            self.land(hand, frame.entry)
        return size

    cdef int add_result(self, Hand* hand, fq_result* frame, const char* data, size_t n) except -1:
        # `frame` may be STORE or EVENT, in the middle of a task, or OUTCOME, its end.
        cdef uint32_t index = NONE
        if frame.kind == FQ_EVENT:
            self.next_event(frame.commands)
            return put(&self.events, data, n)
        if frame.kind == FQ_OUTCOME:
            index = self.answered_by(hand, frame)
            if index == NONE and hand.berths:
                return 0
            if index != NONE and self.entries[index].settled:
                index = NONE        # acknowledged early: only the result counts
            if frame.outcome == DEAD_OUTCOME:
                return self.add_dead(hand, frame.number, frame.entry, index, data[:n])
            if frame.outcome == REQUEUE_OUTCOME:
                if index != NONE and self.entries[index].batch != NONE:
                    self.rare.append((index, data[:n]))
                    return 0
                n = 0               # what has been acknowledged cannot be requeued: it is over
        if n:
            self.add_results(hand, frame.number, frame.commands, data, n)
        if index != NONE:
            self.settle_late(hand, frame.number, index)
        return 0

    cdef int add_dead(self, Hand* hand, uint64_t number, uint32_t which, uint32_t index, bytes letter) except -1:
        # `which`: its entry; `index`: the same, unless that has been acknowledged.
        cdef uint32_t claim_key = (<fq_frame*>self.entries[which].frame if hand.berths
                                   else self.frame_at(hand, number)).claim_key
        if index != NONE and self.entries[index].batch != NONE:
            self.dead.append((index, claim_key, letter))
            return 0
        self.dead.append((None, claim_key, letter))
        if index != NONE:
            self.settle_late(hand, number, index)
        return 0

    def sleep(self, bint only_hungry):
        """The engine is about to wait. True: there is something to collect already, don't.

        `only_hungry`: children are to wake it only when they come or go, or run out of tasks or of room for results.
        """
        cdef uint32_t i
        fq_step()
        announce32(&self.header.engine_wait, FQ_WAKE_HUNGRY if only_hungry else FQ_WAKE_ANY)
        fq_step()
        # The second look: whatever a child would have woken the engine for, had it come a moment later.
        for i in range(self.top):
            if self.hands[i].used and self.has_news(&self.hands[i], only_hungry):
                return True
        return False

    cdef bint has_news(self, Hand* hand, bint only_hungry) noexcept nogil:
        cdef uint64_t head = load64(&hand.slot.result_head), done = load64(&hand.slot.done_count)
        if load32(&hand.slot.state) != hand.state or load32(&hand.slot.result_wait):
            return True
        if hand.berths and only_hungry:
            # It may have room for more, and nothing in its ring.
            return (head - hand.slot.result_tail > self.header.result_bytes // 2
                    or ((head != hand.slot.result_tail or self.gate_of(hand) != hand.started)
                        and done + self.voids(hand, done) >= hand.count))
        if only_hungry:
            return (head - hand.slot.result_tail > self.header.result_bytes // 2
                    or (done != hand.done and done + self.voids(hand, done) == hand.count))
        return head != hand.slot.result_tail or done != hand.done or self.gate_of(hand) != hand.started

    def awake(self):
        """The engine is not waiting any more: children need not wake it."""
        store32(&self.header.engine_wait, FQ_AWAKE)
