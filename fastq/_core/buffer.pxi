# Bytes that grow, and Redis commands written into them.
#
# A buffer keeps its room from one flush to the next, unless a huge result has passed through it.

from libc.stdlib cimport calloc, free, malloc, realloc

cdef struct Buffer:
    char* data
    size_t size, room

cdef int grow(Buffer* b, size_t more) except -1:
    cdef size_t room
    cdef char* data
    if b.size + more > b.room:
        room = max(b.room * 2, b.size + more, 65536)
        data = <char*>realloc(b.data, room)
        if data == NULL:
            raise MemoryError()
        b.data, b.room = data, room
    return 0


cdef inline int put(Buffer* b, const char* data, size_t n) except -1:
    if n:                       # memcpy must not be called with NULL, also for nothing
        grow(b, n)
        memcpy(b.data + b.size, data, n)
        b.size += n
    return 0


cdef inline size_t digits(char* out, int64_t value) noexcept nogil:
    # Decimal text; returns its length. `out` has room for 20.
    cdef char back[20]
    cdef size_t n = 0, i
    cdef uint64_t rest = 0 - <uint64_t>value if value < 0 else <uint64_t>value
    while rest or n == 0:
        back[n] = 48 + rest % 10
        rest //= 10
        n += 1
    i = 0
    if value < 0:
        out[0] = 45
        i = 1
    while n:
        n -= 1
        out[i] = back[n]
        i += 1
    return i


cdef inline int put_count(Buffer* b, char kind, int64_t value) except -1:
    cdef char text[24]
    cdef size_t n = digits(text + 1, value)
    text[0], text[n + 1], text[n + 2] = kind, 13, 10
    return put(b, text, n + 3)


cdef inline int put_bulk(Buffer* b, const char* data, size_t n) except -1:
    put_count(b, 36, n)
    put(b, data, n)
    return put(b, b"\r\n", 2)


cdef inline int put_number(Buffer* b, int64_t value) except -1:
    cdef char text[20]
    return put_bulk(b, text, digits(text, value))

cdef void shrink(Buffer* b) noexcept:
    # A buffer that once held a huge result does not keep its size.
    cdef char* data
    if b.room > (8 << 20) and b.size == 0:
        data = <char*>realloc(b.data, 1 << 20)
        if data != NULL:
            b.data, b.room = data, 1 << 20
