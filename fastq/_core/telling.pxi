# Events on their way to the monitors: what children have written, and task-received, which is written here.

cdef enum:
    # Bytes of events in one message. Subscribers who fall behind are cut off at some megabytes (Redis's output buffer
    # limits), and decode a message as a whole.
    EVENT_CHUNK = 1 << 17

cdef struct Received:                   # JSON values of a plain message's headers, as they stand there; size 0: missing
    Span args, kwargs, root, parent, retries


cdef bint read_received(const char* data, size_t size, Span* task, Received* out) noexcept nogil:
    # The headers behind the task's name. Celery's client writes all others behind it.
    cdef Scan s
    cdef Span key
    cdef const char* began
    cdef bint more = True
    memset(out, 0, sizeof(Received))
    s.p, s.end, s.escaped, s.declined = task.at + task.size + 1, data + size, False, False
    while next_item(&s, 125, &more):
        if not more:
            return True
        if not scan_key(&s, &key):
            return False
        began = s.p
        if not scan_value(&s, 2):
            return False
        note_received(&key, began, <uint32_t>(s.p - began), out)
    return False


cdef inline void note_received(Span* key, const char* at, uint32_t size, Received* out) noexcept nogil:
    cdef Span* span = NULL
    if span_is(key, b"argsrepr", 8):
        span = &out.args
    elif span_is(key, b"kwargsrepr", 10):
        span = &out.kwargs
    elif span_is(key, b"root_id", 7):
        span = &out.root
    elif span_is(key, b"parent_id", 9):
        span = &out.parent
    elif span_is(key, b"retries", 7):
        span = &out.retries
    if span != NULL:
        span.at, span.size = at, size


cdef class _Telling(_Passing):
    """What monitors are to be told, in messages' worth."""
    cdef Buffer events                  # objects with commas between
    cdef uint32_t event_count
    cdef list event_chunks
    cdef EventPen pen
    cdef bytearray told                 # by task: whether its events are sent
    cdef object tell_packed             # tells it of a packed message, whose arguments nobody has described yet

    def __cinit__(self, *_rest):
        self.event_chunks = []

    def __dealloc__(self):
        free(self.events.data)

    def tell_received(self, EventPen pen not None, list told not None, tell_packed=None):
        """While events are on, write task-received for plain messages of these tasks (a flag for each). Of packed ones
        `tell_packed(message)` adds it; None leaves them to Python."""
        self.pen, self.told, self.tell_packed = pen, bytearray(told), tell_packed

    cdef inline bint tells(self, uint32_t task):
        return self.pen is not None and self.pen.telling() and self.told[task]

    cdef int add_received(self, Plain* plain, const char* data, size_t n) except -1:
        cdef Received said
        cdef timespec now
        cdef Buffer* b = &self.events
        if plain.packed:
            self.tell_packed(data[:n])
            return 0
        read_received(data, n, &plain.task, &said)
        self.next_event(1)
        self.pen.begin(b, &now)
        put(b, b', "uuid": "', 11)
        put(b, plain.id.at, plain.id.size)
        put(b, b'", "name": "', 12)
        put(b, plain.task.at, plain.task.size)
        put(b, b'"', 1)
        self.put_said(b', "args": ', &said.args, b'""')
        self.put_said(b', "kwargs": ', &said.kwargs, b'""')
        self.put_said(b', "root_id": ', &said.root, b"null")
        self.put_said(b', "parent_id": ', &said.parent, b"null")
        self.put_said(b', "retries": ', &said.retries, b"0")
        put(b, b', "eta": null, "expires": null', 30)
        return self.pen.end(b, &now, b"task-received", 13)

    cdef inline int put_said(self, const char* name, Span* value, const char* missing) except -1:
        put(&self.events, name, strlen(name))
        if value.size:
            return put(&self.events, value.at, value.size)
        return put(&self.events, missing, strlen(missing))

    cdef int next_event(self, uint32_t count) except -1:
        # `count` more events are about to be written.
        if self.events.size > EVENT_CHUNK:
            self.cut_events()
        if self.events.size:
            put(&self.events, b", ", 2)
        self.event_count += count
        return 0

    cdef int cut_events(self) except -1:
        self.event_chunks.append((self.events.data[: self.events.size], self.event_count))
        self.events.size = self.event_count = 0
        shrink(&self.events)
        return 0

    def add_event(self, bytes data not None):
        """One more event, as `EventPen` writes it."""
        self.next_event(1)
        put(&self.events, <char*>data, len(data))

    def take_events(self):
        """What is to be told since the last call: (objects with commas between, their number), a message each."""
        if self.events.size:
            self.cut_events()
        chunks, self.event_chunks = self.event_chunks, []
        return chunks

    @property
    def untold_events(self):
        """Whether there are any."""
        return self.events.size != 0 or len(self.event_chunks) != 0
