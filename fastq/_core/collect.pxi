# What children have started, finished and sent.

cdef class _Collecting(_Intake):
    """The reading end of the result rings, and how the engine sleeps until there is something in them."""
    cdef readonly uint64_t started

    def collect(self):
        """Read what the children have started, finished and sent. Returns requeues, rare: (entry, message)."""
        cdef uint32_t i
        cdef list rare = []
        for i in range(self.top):
            if self.hands[i].used:
                self.collect_from(i, rare)
        return rare

    cdef int collect_from(self, uint32_t child, list rare) except -1:
        cdef Hand* hand = &self.hands[child]
        cdef uint64_t done = load64(&hand.slot.done_count)          # before the results: see the rings' rule 4
        cdef uint64_t started = load64(&hand.slot.gate) & ~FQ_RECALL
        cdef uint64_t head = load64(&hand.slot.result_head)
        cdef uint64_t tail = hand.slot.result_tail
        cdef uint32_t index
        while hand.started < started:
            index = hand.entries[hand.started & (IN_FLIGHT - 1)]
            if index != NONE and not self.entries[index].late:
                self.settle_entry(index)
            hand.started += 1
            self.started += 1
        if tail != head:
            while tail != head:
                tail += self.collect_result(hand, tail, rare)
            store64(&hand.slot.result_tail, tail)
            wake_for_room(hand.slot)
        while hand.done < done:
            self.finish(hand, hand.done)
            hand.done += 1
        return 0

    cdef uint32_t collect_result(self, Hand* hand, uint64_t tail, list rare) except 0:
        cdef fq_result* frame = <fq_result*>(hand.results + tail % self.header.result_bytes)
        cdef uint32_t size = frame.size, index
        cdef char* data = <char*>frame + sizeof(fq_result)
        cdef bytes side
        if frame.kind == FQ_PAD:
            return size
        if frame.flags & FQ_SIDE:
            side = read_side(data[: frame.payload_len])
            self.add_result(hand, frame, <char*>side, len(side), rare)
        else:
            self.add_result(hand, frame, data, frame.payload_len, rare)
        return size

    cdef int add_result(self, Hand* hand, fq_result* frame, const char* data, size_t n, list rare) except -1:
        cdef uint32_t index = NONE
        if frame.kind == FQ_OUTCOME:
            hand.answered = frame.number + 1
            index = hand.entries[frame.number & (IN_FLIGHT - 1)]
            if frame.outcome == 3:
                if index != NONE and not self.entries[index].settled:
                    rare.append((index, data[:n]))
                return 0
        if n:
            put(&self.results, data, n)
            self.result_commands += frame.commands
        if index != NONE and not self.entries[index].settled:
            if n and self.separate_results:
                self.deferred.append(index)
            else:
                self.settle_entry(index)
        return 0

    def sleep(self, bint only_hungry):
        """The engine is about to wait. True: there is something to collect already, don't.

        `only_hungry`: children are to wake it only when they run out of tasks or of room for results.
        """
        cdef uint32_t i
        cdef Hand* hand
        swap32(&self.header.engine_wait, FQ_WAKE_HUNGRY if only_hungry else FQ_WAKE_ANY)
        for i in range(self.top):
            hand = &self.hands[i]
            if not hand.used:
                continue
            if only_hungry:
                if self.first != NONE and load64(&hand.slot.done_count) == hand.count and hand.done != hand.count:
                    return True
            elif (load64(&hand.slot.result_head) != hand.slot.result_tail
                  or load64(&hand.slot.done_count) != hand.done
                  or (load64(&hand.slot.gate) & ~FQ_RECALL) != hand.started):
                return True
        return False

    def awake(self):
        """The engine is not waiting any more: children need not wake it."""
        store32(&self.header.engine_wait, FQ_AWAKE)

cdef bytes read_side(bytes path):
    with open(_os.fsdecode(path), "rb") as file:
        data = file.read()
    _os.unlink(_os.fsdecode(path))
    return data
