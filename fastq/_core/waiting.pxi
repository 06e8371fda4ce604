# Entries with a time: a heap of times and entries, nothing else. Their messages stay on the broker.

cdef inline bint is_before(Due* one, Due* other) noexcept nogil:
    # Of the same time, what was parked first. The order may wrap around: no two that wait are that far apart.
    return one.at < other.at or (one.at == other.at and <int32_t>(one.order - other.order) < 0)


cdef class _Waiting(_Flushing):
    """Entries that wait for their time."""
    cdef Due* heap
    cdef uint32_t heap_room, heap_size, parked
    cdef readonly uint32_t waiting

    def __dealloc__(self):
        free(self.heap)

    @property
    def held(self):
        """Entries in use, waiting ones not counted."""
        return self.used_entries - self.waiting

    def park(self, uint32_t index, double at, uint32_t task=NO_TASK):
        """A held entry waits until the unix time `at`. Its message stays on the broker only. With a `task`, nothing but
        its time is special about it: when that has come, `resume` may place it."""
        cdef Entry* entry = self.held_entry(index)
        cdef Due due
        cdef uint32_t i
        if entry.batch == NONE or at != at:
            raise ValueError(f"entry {index} cannot wait until {at}: that is no time, or it has no message to fetch")
        if self.heap_size == self.heap_room:
            self.more_heap()
        due.at, due.entry, due.order = at, index, self.parked
        i = self.heap_size
        self.heap_size += 1
        self.parked += 1
        while i and is_before(&due, &self.heap[(i - 1) // 2]):
            self.heap[i] = self.heap[(i - 1) // 2]
            i = (i - 1) // 2
        self.heap[i] = due
        entry.state, entry.number = WAITING, task
        self.waiting += 1

    def hasten(self, set entries not None, double at):
        """Let these waiting entries be due at the unix time `at`, in the order in which they were parked."""
        cdef uint32_t i
        for i in range(self.heap_size):
            if self.heap[i].entry in entries:
                self.heap[i].at = at
        for i in range(self.heap_size // 2, 0, -1):
            self.sink(i - 1, self.heap[i - 1])

    cdef int more_heap(self) except -1:
        cdef uint32_t room = self.heap_room * 2 if self.heap_room else 1024
        cdef Due* grown = <Due*>realloc(self.heap, room * sizeof(Due))
        if grown == NULL:
            raise MemoryError()
        self.heap, self.heap_room = grown, room
        return 0

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
        cdef uint32_t index = self.heap[0].entry
        self.heap_size -= 1
        self.sink(0, self.heap[self.heap_size])
        self.entries[index].state = HELD
        self.waiting -= 1
        return index

    cdef void sink(self, uint32_t i, Due due) noexcept:
        # Put `due` at `i` or as far below as it has to be.
        cdef uint32_t child
        while True:
            child = 2 * i + 1
            if child >= self.heap_size:
                break
            if child + 1 < self.heap_size and is_before(&self.heap[child + 1], &self.heap[child]):
                child += 1
            if is_before(&due, &self.heap[child]):
                break
            self.heap[i] = self.heap[child]
            i = child
        self.heap[i] = due

    cdef tuple fetch_place(self, uint32_t index):
        cdef Entry* entry = &self.entries[index]
        cdef Batch* batch = &self.batches[entry.batch]
        return index, (<bytes>self.claims[batch.key]) + b"%d" % batch.n, -<int64_t>entry.position - 1
