# Events for monitors, written as Celery's dispatcher writes them: JSON objects with their fields in the same order.
#
# Child and engine write whole objects, so that the engine only has to string them together. Their order is that of one
# clock in the shared header, which whoever writes an event moves by one.

cdef extern from "<time.h>" nogil:
    int clock_gettime(int, timespec*)
    int CLOCK_REALTIME


cdef int put_micros(Buffer* b, timespec* moment) except -1:
    # Seconds since 1970 with microseconds: all that a double of today's times can hold.
    cdef char text[32]
    cdef size_t n = digits(text, moment.tv_sec)
    cdef long micro = moment.tv_nsec // 1000
    cdef size_t i
    text[n] = 46
    for i in range(6, 0, -1):
        text[n + i] = <char>(48 + micro % 10)
        micro //= 10
    return put(b, text, n + 7)


cdef int put_runtime(Buffer* b, uint64_t nanoseconds) except -1:
    # A duration in seconds.
    cdef char text[32]
    cdef size_t n = digits(text, <int64_t>(nanoseconds // 1000000000))
    cdef uint64_t rest = nanoseconds % 1000000000
    cdef size_t i
    text[n] = 46
    for i in range(9, 0, -1):
        text[n + i] = <char>(48 + rest % 10)
        rest //= 10
    return put(b, text, n + 10)


@cython.final
cdef class EventPen:
    """Writes the events of one worker.

    `head()` is what every event begins with, up to its clock: `{"hostname": …, "utcoffset": …, "pid": …, "clock": `. It
    is asked for again every minute, because of the offset.
    """
    cdef fq_header* header
    cdef Segment segment
    cdef object head
    cdef bytes head_text
    cdef long minute

    def __cinit__(self, Segment segment not None, head not None):
        self.segment, self.header, self.head, self.minute = segment, segment.header, head, -1

    cdef inline bint telling(self) noexcept nogil:
        return load32(&self.header.events) != 0

    cdef int begin(self, Buffer* b, timespec* now) except -1:
        # Up to and with the clock; `now` is for `end`.
        cdef char text[20]
        clock_gettime(CLOCK_REALTIME, now)
        if now.tv_sec // 60 != self.minute:
            self.head_text, self.minute = self.head(), now.tv_sec // 60
        put(b, <char*>self.head_text, len(self.head_text))
        return put(b, text, digits(text, <int64_t>add64(&self.header.clock, 1)))

    cdef int end(self, Buffer* b, timespec* now, const char* kind, size_t size) except -1:
        put(b, b', "timestamp": ', 15)
        put_micros(b, now)
        put(b, b', "type": "', 11)
        put(b, kind, size)
        return put(b, b'"}', 2)

    def write(self, bytes kind not None, bytes fields not None):
        """One event. `fields` is JSON: an object without its brackets."""
        cdef Buffer b
        cdef timespec now
        b.data, b.size, b.room = NULL, 0, 0
        try:
            self.begin(&b, &now)
            if fields:
                put(&b, b", ", 2)
                put(&b, <char*>fields, len(fields))
            self.end(&b, &now, <char*>kind, len(kind))
            return b.data[: b.size]
        finally:
            free(b.data)
