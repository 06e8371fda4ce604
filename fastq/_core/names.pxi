# Task names to numbers, looked up by bytes.

@cython.final
cdef class Names:
    """Task names to their index in the program's table, looked up by bytes without making an object."""
    cdef list names
    cdef uint32_t* table
    cdef uint32_t mask, last

    def __cinit__(self, list names):
        cdef uint32_t size = 16, i, at
        cdef bytes name
        self.names, self.last = names, NONE
        while size < 2 * len(names):
            size *= 2
        self.mask = size - 1
        self.table = <uint32_t*>malloc(size * sizeof(uint32_t))
        if self.table == NULL:
            raise MemoryError()
        memset(self.table, 0xFF, size * sizeof(uint32_t))
        for i, name in enumerate(names):
            at = hash_bytes(<char*>name, len(name)) & self.mask
            while self.table[at] != NONE:
                at = (at + 1) & self.mask
            self.table[at] = i

    def __dealloc__(self):
        free(self.table)

    cdef inline bint is_at(self, uint32_t index, const char* name, uint32_t size):
        cdef bytes there = <bytes>self.names[index]
        return <uint32_t>len(there) == size and memcmp(<char*>there, name, size) == 0

    cdef uint32_t find(self, const char* name, uint32_t size):
        cdef uint32_t at
        if self.last != NONE and self.is_at(self.last, name, size):
            return self.last
        at = hash_bytes(name, size) & self.mask
        while self.table[at] != NONE:
            if self.is_at(self.table[at], name, size):
                self.last = self.table[at]
                return self.last
            at = (at + 1) & self.mask
        return NONE


cdef inline uint32_t hash_bytes(const char* data, uint32_t size) noexcept nogil:
    # FNV-1a: short keys, no adversary (the names are the application's own).
    cdef uint32_t h = 2166136261u, i
    for i in range(size):
        h = (h ^ <uint8_t>data[i]) * 16777619u
    return h
