# From the line of pending entries into the children's rings, and back.

cdef class _Dealing(_Waiting):
    """Pending entries, in order, and the writing end of the task rings."""
    cdef uint32_t first, last                  # pending, in order
    cdef readonly uint32_t pending
    cdef readonly uint64_t recalled

    def __cinit__(self, *_rest):
        self.first = self.last = NONE

    cdef void queue_last(self, uint32_t index) noexcept:
        self.entries[index].state, self.entries[index].next = PENDING, NONE
        if self.first == NONE:
            self.first = index
        else:
            self.entries[self.last].next = index
        self.last = index
        self.pending += 1

    cdef void queue_first(self, uint32_t index) noexcept:
        self.entries[index].state, self.entries[index].next = PENDING, self.first
        if self.first == NONE:
            self.last = index
        self.first = index
        self.pending += 1

    cdef uint32_t unqueue(self) noexcept:
        cdef uint32_t index = self.first
        self.first = self.entries[index].next
        if self.first == NONE:
            self.last = NONE
        self.pending -= 1
        return index

    cdef int choose(self) noexcept:
        # The child with the least before it, among those that may take one more.
        cdef uint32_t i
        cdef int best = -1
        cdef uint64_t least = 0, load
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if not hand.used:
                continue
            load = hand.count - hand.done
            if hand.count - hand.started >= hand.depth and (hand.depth or load):
                continue
            if best < 0 or load < least:
                if load32(&hand.slot.state) == FQ_READY and hand.count - hand.freed < IN_FLIGHT:
                    best, least = i, load
        return best

    cdef bint deal_one(self, uint32_t index, fq_frame* frame, const char* payload) noexcept:
        cdef int child = self.choose()
        return child >= 0 and self.write_frame(child, index, frame, payload)

    cdef bint write_frame(self, uint32_t child, uint32_t index, fq_frame* frame, const char* payload) noexcept:
        # False: no room. `payload` NULL: it lies behind the header already.
        cdef Hand* hand = &self.hands[child]
        cdef uint32_t cap = self.header.task_bytes
        cdef uint32_t place = <uint32_t>(hand.head % cap)
        cdef uint32_t pad = cap - place if place + frame.size > cap else 0
        cdef fq_frame* there
        cdef Entry* entry = &self.entries[index]
        if hand.head + pad + frame.size - hand.freed_at > cap:
            return False
        if pad:
            there = <fq_frame*>(hand.tasks + place)
            there.size, there.kind = pad, FQ_PAD
            hand.head += pad
            place = 0
        if payload == NULL:
            memcpy(hand.tasks + place, frame, frame.size)
        else:
            memcpy(hand.tasks + place, frame, sizeof(fq_frame))
            memcpy(hand.tasks + place + sizeof(fq_frame), payload, frame.payload_len)
        hand.entries[hand.count & (IN_FLIGHT - 1)] = index
        hand.places[hand.count & (IN_FLIGHT - 1)] = hand.head
        entry.state, entry.child, entry.number = DEALT, child, hand.count
        hand.head += frame.size
        hand.count += 1
        hand.wake = True
        return True

    def deal(self):
        """Give pending entries to children that may take more, and wake who got some. Returns how many are left."""
        cdef uint32_t index
        cdef Entry* entry
        while self.first != NONE:
            index = self.first
            entry = &self.entries[index]
            if not self.deal_one(index, <fq_frame*>entry.frame, NULL):
                break
            self.unqueue()
            free(entry.frame)
            entry.frame = NULL
        self.publish()
        return self.pending

    cdef void publish(self) noexcept:
        # One store for all frames since the last: a child sees them together, and is woken once.
        cdef uint32_t i
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if hand.used and hand.wake:
                hand.wake = False
                hand.slot.task_count = hand.count
                store64(&hand.slot.task_head, hand.head)
                wake_child(hand.slot)

    def recall(self, uint32_t child):
        """Take back what a child has not started; it is pending again, first in line. Returns how many."""
        cdef Hand* hand = &self.hands[child]
        cdef uint64_t started
        self.publish()
        started = or64(&hand.slot.gate, FQ_RECALL) & ~FQ_RECALL
        n = self.take_back(hand, started)
        and64(&hand.slot.gate, ~FQ_RECALL)
        return n

    cdef uint32_t take_back(self, Hand* hand, uint64_t started) except? NONE:
        cdef uint64_t number = hand.count
        cdef fq_frame* frame
        cdef uint32_t index, n = 0
        cdef char* kept
        while number > started:
            number -= 1
            index = hand.entries[number & (IN_FLIGHT - 1)]
            frame = <fq_frame*>(hand.tasks + hand.places[number & (IN_FLIGHT - 1)] % self.header.task_bytes)
            if index == NONE or frame.kind == FQ_VOID:
                continue
            kept = <char*>malloc(frame.size)
            if kept == NULL:
                raise MemoryError()
            memcpy(kept, frame, frame.size)
            frame.kind = FQ_VOID
            hand.entries[number & (IN_FLIGHT - 1)] = NONE
            self.entries[index].frame, self.entries[index].child = kept, NONE
            self.queue_first(index)
            n += 1
        self.recalled += n
        return n

    def withdraw(self, uint32_t limit):
        """Up to `limit` entries that no child has, pending ones first, then waiting ones, in the caller's hands:
        (entry, key number, claim list number, position). Verdicts stay. Recall the children first."""
        cdef list out = []
        cdef uint32_t index, n
        for n in range(self.pending):
            if <uint32_t>len(out) >= limit:
                break
            index = self.unqueue()
            if (<fq_frame*>self.entries[index].frame).kind == FQ_VERDICT:
                self.queue_last(index)
                continue
            free(self.entries[index].frame)
            self.entries[index].frame = NULL
            self.entries[index].state = HELD
            out.append(index)
        while self.heap_size and <uint32_t>len(out) < limit:
            out.append(self.pop_due())
        return [(i, *self.where(i)) for i in out]
