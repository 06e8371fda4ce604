# Urgent messages pass ordinary ones: in the rings by taking those back, on the broker by giving them back.

cdef class _Passing(_Dealing):
    """Who goes first among what has not been started."""

    @property
    def last_rank(self):
        """The rank of the least urgent message in line; 0: there is none, or nothing can be more urgent."""
        cdef uint32_t rank
        for rank in range(RANKS - 1, 0, -1):
            if self.lasts[rank] != NONE:
                return rank
        return 0

    def let_pass(self):
        """Take back what children have not started and what is less urgent than something in line, or than something
        behind it in the same ring. Of as many children as there are urgent messages. Returns how many came back."""
        cdef uint32_t child, n = 0, urgent = 0, index = self.first
        cdef uint8_t best = RANKS if index == NONE else self.entries[index].rank
        cdef Hand* hand
        while index != NONE and self.entries[index].rank < self.lowest_dealt and urgent < self.top:
            urgent += 1
            index = self.entries[index].next
        self.lowest_dealt, self.passing = 0, False
        for child in range(self.top):
            hand = &self.hands[child]
            if not hand.used:
                continue
            if self.lies_wrong(hand, best if urgent else RANKS):
                n += self.recall(child)
                urgent -= 1 if urgent else 0
            elif urgent and self.burden(hand) == 0:
                urgent -= 1
            self.lowest_dealt = max(self.lowest_dealt, self.lowest_in(hand))
        return n

    cdef bint lies_wrong(self, Hand* hand, uint8_t best) noexcept:
        # Whether something in this ring lies before something better: `best` is to be the last there.
        cdef uint64_t number = hand.count, started = self.gate_of(hand)
        cdef uint32_t index
        while number > started:
            number -= 1
            index = hand.entries[number & (IN_FLIGHT - 1)]
            if index == NONE:
                continue
            if self.entries[index].rank > best:
                return True
            best = self.entries[index].rank
        return False

    cdef uint8_t lowest_in(self, Hand* hand) noexcept:
        cdef uint64_t number
        cdef uint32_t index
        cdef uint8_t lowest = 0
        for number in range(self.gate_of(hand), hand.count):
            index = hand.entries[number & (IN_FLIGHT - 1)]
            if index != NONE:
                lowest = max(lowest, self.entries[index].rank)
        return lowest

    cdef list yielding(self, uint8_t rank):
        # Pending messages of lower rank that can be given back as they are, in order.
        cdef list found = []
        cdef uint32_t index = self.last_until(rank)
        cdef fq_frame* frame
        index = self.first if index == NONE else self.entries[index].next
        while index != NONE:
            frame = <fq_frame*>self.entries[index].frame
            if frame.kind == FQ_TASK and not frame.flags & FQ_SIDE and self.entries[index].batch != NONE:
                found.append(index)
            index = self.entries[index].next
        return found

    def may_yield(self, uint32_t rank):
        """How many messages in line are less urgent than this rank and could be given back for one that is not."""
        return len(self.yielding(<uint8_t>min(rank, RANKS - 1)))

    def give_back(self, uint32_t count, uint32_t rank):
        """Give up to `count` messages less urgent than `rank`, from the end of the line, back to the front of their
        queues, each in one step of the next flush with the end of its claim. Unchanged: nobody has tried to run them.
        Returns the number of each one's key."""
        cdef list last = self.yielding(<uint8_t>min(rank, RANKS - 1))[-<int64_t>count:] if count else []
        cdef list messages = [self.message_of(index) for index in last]
        cdef list keys = [self.batches[self.entries[index].batch].key for index in last]
        cdef uint32_t index
        self.pull(set(last))
        for index, message, key in zip(reversed(last), reversed(messages), reversed(keys)):
            self.entries[index].finished = True
            self.put_away(index, b"*3\r\n$5\r\nRPUSH\r\n", message, self.keys[key])
        return keys

    cdef bytes message_of(self, uint32_t index):
        cdef fq_frame* frame = <fq_frame*>self.entries[index].frame
        return (<char*>frame + sizeof(fq_frame))[: frame.payload_len]
