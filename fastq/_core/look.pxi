# What the ledger holds, for whoever asks. Views: they change nothing, and cost nothing until somebody asks.

from heapq import heappop, heappush


cdef class _Looking(_Collecting):
    """Messages as they lie, before a child has started them."""

    def unstarted_messages(self, uint32_t limit):
        """(flags, payload) of up to `limit` tasks that are in a ring or in line, and that nobody has started."""
        cdef list found = []
        cdef uint32_t i, index
        cdef uint64_t number
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if not hand.used:
                continue
            for number in range(self.gate_of(hand), hand.count):
                if <uint32_t>len(found) < limit and hand.entries[number & (IN_FLIGHT - 1)] != NONE:
                    self.add_message(found, self.frame_at(hand, number))
        index = self.first
        while index != NONE and <uint32_t>len(found) < limit:
            self.add_message(found, <fq_frame*>self.entries[index].frame)
            index = self.entries[index].next
        return found

    cdef int add_message(self, list found, fq_frame* frame) except -1:
        if frame.kind == FQ_TASK:
            found.append((frame.flags, (<char*>frame + sizeof(fq_frame))[: frame.payload_len]))
        return 0

    def waiting_places(self, uint32_t limit):
        """(entry, time, claim list, index for LINDEX) of up to `limit` entries that wait, in the order of their times.

        Their messages are on the broker only.
        """
        cdef list found = [], edge = [(self.heap[0].at, 0, 0)] if self.heap_size else []
        cdef uint32_t i, child
        # From the top of the heap down: what comes next is always at the edge of what has been seen.
        while edge and <uint32_t>len(found) < limit:
            _, _, i = heappop(edge)
            _, claim, at = self.fetch_place(self.heap[i].entry)
            found.append((self.heap[i].entry, self.heap[i].at, claim, at))
            for child in range(2 * i + 1, min(2 * i + 3, self.heap_size)):
                heappush(edge, (self.heap[child].at, <int32_t>(self.heap[child].order - self.heap[0].order), child))
        return found

    def accepted(self):
        """How many messages of each task have been started, by task number."""
        cdef list counts = [self.admitted[task] for task in range(self.tasks)]
        cdef uint32_t i, index
        cdef uint64_t number
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if hand.used:
                for number in range(self.gate_of(hand), hand.count):
                    if hand.entries[number & (IN_FLIGHT - 1)] != NONE:
                        self.uncount(counts, self.frame_at(hand, number))
        index = self.first
        while index != NONE:
            self.uncount(counts, <fq_frame*>self.entries[index].frame)
            index = self.entries[index].next
        return counts

    cdef int uncount(self, list counts, fq_frame* frame) except -1:
        if frame.kind == FQ_TASK and frame.task < self.tasks:
            counts[frame.task] -= 1
        return 0
