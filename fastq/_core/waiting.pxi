# Entries with a time: a heap of times and entries, nothing else. Their messages stay on the broker.

cdef class _Waiting(_Flushing):
    """Entries that wait for their time."""
    cdef Due* heap
    cdef uint32_t heap_room, heap_size
    cdef readonly uint32_t waiting

    def __dealloc__(self):
        free(self.heap)

    @property
    def held(self):
        """Entries in use, waiting ones not counted."""
        return self.used_entries - self.waiting

    def park(self, uint32_t index, double at):
        """A held entry waits until the unix time `at`. Its message stays on the broker only."""
        cdef Entry* entry = self.entry(index)
        cdef Due* grown
        cdef uint32_t i, up
        if entry.state != HELD:
            raise ValueError(f"entry {index} is not in the caller's hands")
        if self.heap_size == self.heap_room:
            up = self.heap_room * 2 if self.heap_room else 1024
            grown = <Due*>realloc(self.heap, up * sizeof(Due))
            if grown == NULL:
                raise MemoryError()
            self.heap, self.heap_room = grown, up
        i = self.heap_size
        self.heap_size += 1
        while i and at < self.heap[(i - 1) // 2].at:
            self.heap[i] = self.heap[(i - 1) // 2]
            i = (i - 1) // 2
        self.heap[i].at, self.heap[i].entry = at, index
        entry.state = WAITING
        self.waiting += 1

    def next_due(self):
        """The unix time at which the next waiting entry is due, or None."""
        return self.heap[0].at if self.heap_size else None

    def take_due(self, double now, uint32_t limit):
        """Up to `limit` entries that are due, in the caller's hands again, with where to fetch each:
        (entry, claim list, index for LINDEX)."""
        cdef list due = []
        while self.heap_size and self.heap[0].at <= now and <uint32_t>len(due) < limit:
            due.append(self.fetch_place(self.pop_due()))
        return due

    cdef uint32_t pop_due(self) noexcept:
        cdef uint32_t index = self.heap[0].entry, i = 0, child
        cdef Due last
        self.heap_size -= 1
        last = self.heap[self.heap_size]
        while True:
            child = 2 * i + 1
            if child >= self.heap_size:
                break
            if child + 1 < self.heap_size and self.heap[child + 1].at < self.heap[child].at:
                child += 1
            if last.at <= self.heap[child].at:
                break
            self.heap[i] = self.heap[child]
            i = child
        self.heap[i] = last
        self.entries[index].state = HELD
        self.waiting -= 1
        return index

    cdef tuple fetch_place(self, uint32_t index):
        cdef Entry* entry = &self.entries[index]
        cdef Batch* batch = &self.batches[entry.batch]
        return index, (<bytes>self.claims[batch.key]) + b"%d" % batch.n, -<int64_t>entry.position - 1
