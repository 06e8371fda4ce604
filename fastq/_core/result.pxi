# Write what a child says of its tasks' results: Celery's JSON, and the Redis commands that store and publish it.
#
# Plain values are written here, everything else by the encoder of Python's side; both write what json.dumps would.

from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.mem cimport PyMem_Free
from libc.string cimport strlen

cdef extern from *:
    """
    static inline int fq_is_ascii(PyObject *s) { return PyUnicode_IS_COMPACT_ASCII(s); }
    static inline const char *fq_ascii(PyObject *s) { return (const char *)PyUnicode_DATA(s); }
    static inline Py_ssize_t fq_length(PyObject *s) { return PyUnicode_GET_LENGTH(s); }
    """
    bint fq_is_ascii(object)
    const char* fq_ascii(object)
    Py_ssize_t fq_length(object)
    int Py_DTSF_ADD_DOT_0
    char* PyOS_double_to_string(double, char, int, int, int*) except NULL

#: A result text above this is left to Python, which knows the store's own limit.
cdef enum:
    LARGE_TEXT = 64 * 1024 * 1024


@cython.final
@cython.internal
cdef class ResultPen:
    """Writes the results of one child's plain tasks; the runner reads what it has written.

    `encode(value)` and `quote(text)` return JSON in ASCII; `stamp(seconds)` the two texts around the microseconds of a
    time. `started` is the JSON of a STARTED result's value, `guard` the head of the command that stores it.
    """
    cdef object encode, quote, stamp
    cdef bytes key_prefix, set_head, set_tail, guard, started, expires
    cdef size_t largest                     # bytes of a result text that is stored from here
    cdef Buffer json                        # the text that is being written
    cdef Buffer resp                        # the commands that are to be sent
    cdef bytes second_text, zone_text
    cdef long second

    def __cinit__(self):
        self.json.data = self.resp.data = NULL
        self.second = -1

    def __dealloc__(self):
        free(self.json.data)
        free(self.resp.data)

    def __init__(self, encode, quote, stamp, *, bytes key_prefix, expires_s, bytes guard, bytes started, largest):
        self.encode, self.quote, self.stamp = encode, quote, stamp
        self.key_prefix, self.guard, self.started = key_prefix, guard, started
        self.largest, self.expires = min(largest, LARGE_TEXT), b"%d" % (expires_s or 0)
        if expires_s:
            self.set_head = b"*4\r\n$5\r\nSETEX\r\n"
            self.set_tail = b"$%d\r\n%d\r\n" % (len(self.expires), expires_s)
        else:
            self.set_head, self.set_tail = b"*3\r\n$3\r\nSET\r\n", b""

    cdef void forget_size(self) noexcept:
        self.json.size = self.resp.size = 0
        shrink(&self.json)
        shrink(&self.resp)

    # ------------------------------------------------------------------ what is called for

    cdef int write_started(self, Carried carried, Head* head) except -1:
        # The commands for STARTED, which its script drops if this or a later attempt has ended by then.
        cdef Buffer* b = &self.resp
        self.json.size = 0
        put(&self.json, b'{"status": "STARTED", "result": ', 32)
        put(&self.json, <char*>self.started, len(self.started))
        put(&self.json, b', "traceback": null, "children": [], "date_done": null', 54)
        self.put_origin(carried, head)
        b.size = 0
        put(b, <char*>self.guard, len(self.guard))
        self.put_key(fq_ascii(carried.id), fq_length(carried.id))
        put_bulk(b, self.json.data, self.json.size)
        put_bulk(b, <char*>self.expires, len(self.expires))
        self.json.size = 0
        self.put_now()
        return put_bulk(b, self.json.data, self.json.size)

    cdef bint write_success(self, request, value, Carried carried, Head* head) except *:
        # The commands for SUCCESS. False: it is too large for this way.
        if not self.put_result(request, value):
            return False
        self.put_origin(carried, head)
        self.put_commands(fq_ascii(carried.id), fq_length(carried.id))
        return True

    cdef int write_shown(self, value, show) except -1:
        # The JSON of a result as events show it, alone.
        self.json.size = 0
        if value is None:
            return put(&self.json, b'"None"', 6)
        if value is True:
            return put(&self.json, b'"True"', 6)
        if value is False:
            return put(&self.json, b'"False"', 7)
        return self.put_quoted(show(value))

    # ------------------------------------------------------------------ its parts

    cdef bint put_result(self, request, value) except *:
        # Up to the date. False: too large for this way.
        self.json.size = 0
        put(&self.json, b'{"status": "SUCCESS", "result": ', 32)
        self.put_value(value)
        if self.json.size > self.largest:
            return False
        put(&self.json, b', "traceback": null, "children": ', 33)
        children = request._children
        if children:
            self.put_text(self.encode([child.as_tuple() for child in children]))
        else:
            put(&self.json, b"[]", 2)
        put(&self.json, b', "date_done": "', 16)
        self.put_now()
        put(&self.json, b'"', 1)
        return True

    cdef int put_origin(self, Carried carried, Head* head) except -1:
        # What every result ends with.
        self.put_span(b', "group_id": "', 15, &head.group)
        self.put_span(b', "parent_id": "', 16, &head.parent)
        put(&self.json, b', "task_id": "', 14)
        put(&self.json, fq_ascii(carried.id), fq_length(carried.id))
        return put(&self.json, b'"}', 2)

    cdef inline int put_span(self, const char* name, size_t size, Span* span) except -1:
        if span.size:
            put(&self.json, name, size)
            put(&self.json, span.at, span.size)
            put(&self.json, b'"', 1)
        return 0

    cdef int put_value(self, value) except -1:
        # What json.dumps would write, for the plain types; everything else by the encoder of Python's side.
        cdef object kind = type(value)
        cdef char number[24]
        cdef int overflow = 0
        cdef int64_t whole
        if value is None:
            return put(&self.json, b"null", 4)
        if value is True:
            return put(&self.json, b"true", 4)
        if value is False:
            return put(&self.json, b"false", 5)
        if kind is int:
            whole = PyLong_AsLongLongAndOverflow(value, &overflow)
            # The least of them has no positive counterpart to take digits from.
            if not overflow and whole > -0x7fffffffffffffff:
                return put(&self.json, number, digits(number, whole))
        elif kind is float:
            return self.put_float(PyFloat_AS_DOUBLE(value))
        elif kind is str:
            return self.put_quoted(value)
        return self.put_text(self.encode(value))

    cdef int put_float(self, double value) except -1:
        cdef char* text
        if value != value:
            return put(&self.json, b"NaN", 3)
        if value - value != 0:
            return put(&self.json, b"Infinity", 8) if value > 0 else put(&self.json, b"-Infinity", 9)
        text = PyOS_double_to_string(value, b"r", 0, Py_DTSF_ADD_DOT_0, NULL)
        try:
            return put(&self.json, text, strlen(text))
        finally:
            PyMem_Free(text)

    cdef int put_quoted(self, str value) except -1:
        cdef const char* p
        cdef Py_ssize_t i, n
        if fq_is_ascii(value):
            p, n = fq_ascii(value), fq_length(value)
            i = 0
            while i < n and 32 <= p[i] <= 126 and p[i] != 34 and p[i] != 92:
                i += 1
            if i == n:
                put(&self.json, b'"', 1)
                put(&self.json, p, n)
                return put(&self.json, b'"', 1)
        return self.put_text(self.quote(value))

    cdef int put_text(self, str text) except -1:
        if not fq_is_ascii(text):
            raise TypeError("JSON of Celery's encoder is ASCII")
        return put(&self.json, fq_ascii(text), fq_length(text))

    cdef int put_now(self) except -1:
        # As app.now().isoformat(): the part above the second, and the zone, once per second from Python.
        cdef timespec now
        cdef char text[8]
        cdef long micro
        cdef int i
        clock_gettime(CLOCK_REALTIME, &now)
        if now.tv_sec != self.second:
            self.second_text, self.zone_text = self.stamp(now.tv_sec)
            self.second = now.tv_sec
        put(&self.json, <char*>self.second_text, len(self.second_text))
        micro = now.tv_nsec // 1000
        if micro:
            text[0] = 46
            for i in range(6, 0, -1):
                text[i] = <char>(48 + micro % 10)
                micro //= 10
            put(&self.json, text, 7)
        return put(&self.json, <char*>self.zone_text, len(self.zone_text))

    cdef int put_commands(self, const char* id_text, size_t id_size) except -1:
        cdef Buffer* b = &self.resp
        b.size = 0
        grow(b, 2 * self.json.size + 512)
        put(b, <char*>self.set_head, len(self.set_head))
        self.put_key(id_text, id_size)
        put(b, <char*>self.set_tail, len(self.set_tail))
        put_bulk(b, self.json.data, self.json.size)
        put(b, b"*3\r\n$7\r\nPUBLISH\r\n", 17)
        self.put_key(id_text, id_size)
        return put_bulk(b, self.json.data, self.json.size)

    cdef int put_key(self, const char* id_text, size_t id_size) except -1:
        put_count(&self.resp, 36, len(self.key_prefix) + id_size)
        put(&self.resp, <char*>self.key_prefix, len(self.key_prefix))
        put(&self.resp, id_text, id_size)
        return put(&self.resp, b"\r\n", 2)
