# Replies of Redis (RESP 2), read from where they were received.
#
# A reader holds what has been received and not been used. Replies come in pieces of any size: a reply is used as soon
# as it is whole, and the elements of a claim's reply one by one, so that a large claim is dealt while it still arrives.

from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport INT64_MAX

cdef enum:
    PART = -1           # the rest has not come yet
    NO_BULK = -3        # the same, of a bulk string
    DEEPEST_REPLY = 32  # Levels of arrays in arrays. Redis has about seven; each costs the stack a frame here.
    KEPT_ROOM = 1 << 20
    LARGE_ROOM = 16 << 20


@cython.final
cdef class Reader:
    """Received bytes of one connection, and the claims that are expected on it, in order."""
    cdef char* data
    cdef size_t begin, end, room
    cdef list errors
    # the claim that is being read
    cdef uint32_t batch, moves, lengths
    cdef bint reading, indexing
    cdef list counts

    def __cinit__(self):
        self.errors, self.counts = [], []

    def __dealloc__(self):
        free(self.data)

    def space(self, size_t least=65536):
        """A writable view to receive into; `fed` says how much of it was filled."""
        cdef size_t held = self.end - self.begin
        if self.begin and (held == 0 or self.room - self.end < least):
            memmove(self.data, self.data + self.begin, held)
            self.begin, self.end = 0, held
        if self.room - self.end < least:
            self.resize(max(self.room * 2, held + least))
        elif held == 0 and self.room > LARGE_ROOM and least <= KEPT_ROOM:
            # A buffer that a huge reply has passed through does not keep its size.
            self.resize(KEPT_ROOM)
        return PyMemoryView_FromMemory(self.data + self.end, self.room - self.end, PyBUF_WRITE)

    cdef int resize(self, size_t room) except -1:
        cdef char* data = <char*>realloc(self.data, room)
        if data == NULL:
            raise MemoryError()
        self.data, self.room = data, room
        return 0

    def fed(self, size_t n):
        """`n` bytes of the last `space` were received."""
        if n > self.room - self.end:
            raise ValueError(f"{n} bytes cannot have been received into {self.room - self.end}")
        self.end += n

    def feed(self, bytes data not None):
        """Add received bytes (for tests, and connections that hand out bytes)."""
        if data:
            self.space(len(data))
            memcpy(self.data + self.end, <char*>data, len(data))
            self.end += len(data)

    cdef int64_t line(self, const char** at) except? -2:
        # The first line of a reply, at `at[0]`: sets `at[0]` behind it, returns its length without CR LF, or PART.
        cdef const char* end
        cdef int64_t n = self.data + self.end - at[0]
        if n == 0:
            return PART
        if memchr(b"+-:$*", at[0][0], 5) == NULL:
            raise not_resp(at[0], n)
        end = <const char*>memchr(at[0], 10, n)
        if end == NULL:
            return PART
        n = end - at[0] - 1
        if (end - 1)[0] != 13:
            raise not_resp(at[0], n + 1)
        at[0] = end + 1
        return n

    cdef int64_t number(self, const char* text, int64_t n) except? -2:
        # The decimal number behind the type character.
        cdef int64_t value = 0, i = 1
        cdef bint minus = n > 1 and text[1] == 45
        if minus:
            i = 2
        if i >= n:
            raise not_resp(text, n)
        while i < n:
            if not 48 <= text[i] <= 57 or value > (INT64_MAX - 9) // 10:
                raise not_resp(text, n)
            value = value * 10 + (text[i] - 48)
            i += 1
        return -value if minus else value

    cdef int64_t bulk(self, const char** data) except? -2:
        # The bulk string that comes next: its length, -1 if it is null or an error, NO_BULK if it is not whole. Uses it
        # up. `data` points into the buffer: it is good until the next `space`.
        cdef const char* at = self.data + self.begin
        cdef const char* text = at
        cdef int64_t n, size
        n = self.line(&at)
        if n == PART:
            return NO_BULK
        if text[0] == 42 and self.number(text, n) == -1:        # a null array (a blocking command timed out)
            self.begin = at - self.data
            return -1
        if text[0] == 45:
            self.errors.append(text[1:n])
            self.begin = at - self.data
            return -1
        if text[0] != 36:
            raise ValueError("a bulk string was expected, got " + repr(text[:n]))
        size = self.number(text, n)
        if size < 0:
            self.begin = at - self.data
            return -1
        if not self.whole(at, size):
            return NO_BULK
        data[0] = at
        self.begin = at + size + 2 - self.data
        return size

    cdef int whole(self, const char* at, int64_t size) except -1:
        # Whether a bulk string of `size` bytes at `at` is there, and ends as it should.
        if self.data + self.end - at < size + 2:
            return False
        if at[size] != 13 or at[size + 1] != 10:
            raise not_resp(at, size + 2)
        return True

    cdef int skip(self, const char** at, int depth) except -1:
        # One reply of any kind; errors are noted. False: not whole (nothing is used, errors of it may be noted twice).
        cdef const char* text = at[0]
        cdef int64_t n, size, i
        n = self.line(at)
        if n == PART:
            return False
        if text[0] == 43:
            return True
        if text[0] == 45:
            self.errors.append(text[1:n])
            return True
        size = self.number(text, n)
        if text[0] == 58:
            return True
        if text[0] == 36:
            if size < 0:
                return True
            if not self.whole(at[0], size):
                return False
            at[0] += size + 2
            return True
        if depth == DEEPEST_REPLY:
            raise not_resp(text, n)
        for i in range(size):
            if not self.skip(at, depth + 1):
                return False
        return True

    def skip_replies(self, int64_t n):
        """Use up to `n` replies; returns how many are still to come. `take_errors` has what went wrong."""
        cdef const char* at
        while n:
            at = self.data + self.begin
            noted = len(self.errors)
            if not self.skip(&at, 0):
                del self.errors[noted:]
                break
            self.begin = at - self.data
            n -= 1
        return n

    def take_errors(self):
        """Error replies since the last call, as bytes."""
        errors, self.errors = self.errors, []
        return errors

    def value(self):
        """The next reply as (True, object): int, bytes, None, list, or an Exception for an error; (False, None) if it
        is not whole yet. For rare replies."""
        cdef const char* at = self.data + self.begin
        found = self.parse(&at, 0)
        if found is NotImplemented:
            return False, None
        self.begin = at - self.data
        return True, found

    cdef object parse(self, const char** at, int depth):
        cdef const char* text = at[0]
        cdef int64_t n, size, i
        n = self.line(at)
        if n == PART:
            return NotImplemented
        if text[0] == 43:
            return text[1:n]
        if text[0] == 45:
            return RuntimeError(text[1:n].decode("utf-8", "replace"))
        size = self.number(text, n)
        if text[0] == 58:
            return size
        if size < 0:
            return None
        if text[0] == 36:
            if not self.whole(at[0], size):
                return NotImplemented
            at[0] += size + 2
            return (at[0] - size - 2)[:size]
        if depth == DEEPEST_REPLY:
            raise not_resp(text, n)
        found = []
        for i in range(size):
            item = self.parse(at, depth + 1)
            if item is NotImplemented:
                return NotImplemented
            found.append(item)
        return found

    def expect_claim(self, uint32_t batch, uint32_t moves, uint32_t counts):
        """The next replies are those of SADD, `moves` x LMOVE, `counts` x LLEN; the messages go to `batch`."""
        if self.reading:
            raise ValueError("the claim before has not been read")
        self.batch, self.moves, self.lengths = batch, moves, counts
        self.reading, self.indexing, self.counts = True, True, []

    def read_claim(self, Ledger ledger not None):
        """Take messages out of the claim's replies, as far as they have come. Returns None if they are not whole yet,
        else the queue lengths (a list of ints).

        Errors of single commands are for `take_errors`; a length that is one counts as 0.
        """
        if not self.reading:
            raise ValueError("no claim is expected")
        ledger.read_ns = monotonic_ns()
        try:
            return self.read_elements(ledger)
        finally:
            ledger.publish()

    cdef object read_elements(self, Ledger ledger):
        # SADD's integer, the moved messages, the lengths.
        cdef const char* data = NULL
        cdef int64_t n
        if self.indexing:
            if self.skip_replies(1):
                return None
            self.indexing = False
        while self.moves:
            n = self.bulk(&data)
            if n == NO_BULK:
                return None
            if n >= 0:
                ledger.take(self.batch, data, n)
            self.moves -= 1
        while self.lengths:
            whole, count = self.value()
            if not whole:
                return None
            if isinstance(count, Exception):
                self.errors.append(str(count).encode("utf-8", "replace"))
                count = 0
            elif not isinstance(count, int):
                raise ValueError(f"a length was expected, got {count!r}")
            self.counts.append(count)
            self.lengths -= 1
        self.reading = False
        ledger.note_lengths(self.counts)
        return self.counts

    def read_moved(self, Ledger ledger not None, uint32_t batch):
        """The reply of BLMOVE: None if it is not whole yet, else whether it brought a message (now in `batch`)."""
        cdef const char* data = NULL
        cdef int64_t n = self.bulk(&data)
        if n == NO_BULK:
            return None
        if n >= 0:
            ledger.read_ns = monotonic_ns()
            ledger.take(batch, data, n)
            ledger.publish()
        return n >= 0

    @property
    def buffered(self):
        """Bytes received and not used."""
        return self.end - self.begin


cdef object not_resp(const char* text, int64_t n):
    # What to raise for bytes that no Redis sends.
    return ValueError("a reply that is not RESP: " + repr(text[: min(n, <int64_t>80)]))
