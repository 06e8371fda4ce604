# A scan of plain kombu envelopes: one pass over the JSON, no Python object.
#
# The law: for all bytes b, scan(b) is None or scan(b) == what wire.envelope.read_header says of b. Whatever is unusual
# (an ETA, an expiry, another serializer, an escape in a field that matters, a number or nesting that Python's json
# would treat in a special way, anything not ASCII) is declined, and Python reads it. So this part may be ignorant,
# never wrong: it checks the whole text as JSON, because a scan that skips over damage would run what Python would
# refuse.

cdef extern from *:
    """
    /* Nonzero if one of 8 bytes is a quote, a backslash, a control character, or not ASCII. */
    static inline uint64_t fq_stops(uint64_t x) {
        const uint64_t ones = 0x0101010101010101ull, tops = 0x8080808080808080ull;
        uint64_t quote = x ^ (ones * 0x22), slash = x ^ (ones * 0x5c);
        return (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((x - ones * 0x20) & ~x) | x) & tops;
    }
    static inline uint64_t fq_load8(const char *p) { uint64_t x; __builtin_memcpy(&x, p, 8); return x; }
    """
    uint64_t fq_stops(uint64_t) noexcept nogil
    uint64_t fq_load8(const char*) noexcept nogil

cdef enum:
    DEEPEST = 24            # Levels of nesting; Python's json goes further, so deeper is declined.
    LONGEST_NUMBER = 300    # Python refuses integers of over 4300 digits; long ones are declined.

cdef struct Span:
    const char* at
    uint32_t size

cdef struct Scan:
    const char* p
    const char* end
    bint escaped            # the last string had an escape
    bint declined           # something seen that must be left to Python (a `__type__` key)

cdef struct Plain:
    Span task, id, body
    uint32_t seen


cdef inline void skip_space(Scan* s) noexcept nogil:
    while s.p < s.end and (s.p[0] == 32 or s.p[0] == 10 or s.p[0] == 13 or s.p[0] == 9):
        s.p += 1


cdef inline bint is_hex(char c) noexcept nogil:
    return 48 <= c <= 57 or 65 <= c <= 70 or 97 <= c <= 102


cdef bint scan_escape(Scan* s) noexcept nogil:
    # At the character behind a backslash.
    cdef int i
    if s.p >= s.end:
        return False
    if s.p[0] == 117:                                       # u
        if s.end - s.p < 5:
            return False
        for i in range(1, 5):
            if not is_hex(s.p[i]):
                return False
        s.p += 5
        return True
    if memchr(b'"\\/bfnrt', s.p[0], 8) == NULL:
        return False
    s.p += 1
    return True


cdef bint scan_string(Scan* s, Span* out) noexcept nogil:
    # At the opening quote; afterwards behind the closing one. The span is what lies between, escapes and all.
    cdef const char* begin
    cdef unsigned char c
    if s.p >= s.end or s.p[0] != 34:
        return False
    s.p += 1
    begin = s.p
    s.escaped = False
    while True:
        while s.end - s.p >= 8 and not fq_stops(fq_load8(s.p)):
            s.p += 8
        if s.p >= s.end:
            return False
        c = <unsigned char>s.p[0]
        if c == 34:
            out.at, out.size = begin, <uint32_t>(s.p - begin)
            s.p += 1
            return True
        if c < 32 or c >= 128:
            return False
        s.p += 1
        if c == 92:
            s.escaped = True
            if not scan_escape(s):
                return False


cdef inline bint scan_digits(Scan* s) noexcept nogil:
    cdef const char* begin = s.p
    while s.p < s.end and 48 <= s.p[0] <= 57:
        s.p += 1
    return s.p > begin


cdef bint scan_number(Scan* s) noexcept nogil:
    cdef const char* begin = s.p
    if s.p < s.end and s.p[0] == 45:
        s.p += 1
    if s.p < s.end and s.p[0] == 48:
        s.p += 1
    elif not scan_digits(s):
        return False
    if s.p < s.end and s.p[0] == 46:
        s.p += 1
        if not scan_digits(s):
            return False
    if s.p < s.end and (s.p[0] | 32) == 101:
        s.p += 1
        if s.p < s.end and (s.p[0] == 43 or s.p[0] == 45):
            s.p += 1
        if not scan_digits(s):
            return False
    return s.p - begin <= LONGEST_NUMBER


cdef inline bint scan_word(Scan* s, const char* word, int size) noexcept nogil:
    if s.end - s.p < size or memcmp(s.p, word, size) != 0:
        return False
    s.p += size
    return True


cdef inline bint span_is(Span* span, const char* word, uint32_t size) noexcept nogil:
    return span.size == size and memcmp(span.at, word, size) == 0


cdef bint scan_key(Scan* s, Span* key) noexcept nogil:
    # A key and its colon. kombu gives objects with `__type__` a meaning, so they are Python's.
    if not scan_string(s, key) or s.escaped or span_is(key, b"__type__", 8):
        return False
    skip_space(s)
    if s.p >= s.end or s.p[0] != 58:
        return False
    s.p += 1
    skip_space(s)
    return True


cdef bint next_item(Scan* s, char closing, bint* more) noexcept nogil:
    # Behind a value: a comma (more) or the closing bracket.
    skip_space(s)
    if s.p >= s.end:
        return False
    more[0] = s.p[0] == 44
    if not more[0] and s.p[0] != closing:
        return False
    s.p += 1
    skip_space(s)
    return True


cdef inline bint open_empty(Scan* s, char closing) noexcept nogil:
    # Behind an opening bracket: passes over the closing one of an empty object or array.
    s.p += 1
    skip_space(s)
    if s.p < s.end and s.p[0] == closing:
        s.p += 1
        return True
    return False


cdef bint scan_array(Scan* s, int depth) noexcept nogil:
    cdef bint more = True
    if open_empty(s, 93):
        return True
    while more:
        if not scan_value(s, depth + 1) or not next_item(s, 93, &more):
            return False
    return True


cdef bint scan_object(Scan* s, int depth) noexcept nogil:
    cdef bint more = True
    cdef Span key
    if open_empty(s, 125):
        return True
    while more:
        if not scan_key(s, &key) or not scan_value(s, depth + 1) or not next_item(s, 125, &more):
            return False
    return True


cdef bint scan_value(Scan* s, int depth) noexcept nogil:
    # Any JSON value, checked and passed over.
    cdef Span span
    cdef char c
    if s.p >= s.end or depth > DEEPEST:
        return False
    c = s.p[0]
    if c == 34:
        return scan_string(s, &span)
    if c == 123:
        return scan_object(s, depth)
    if c == 91:
        return scan_array(s, depth)
    if c == 110:
        return scan_word(s, b"null", 4)
    if c == 116:
        return scan_word(s, b"true", 4)
    if c == 102:
        return scan_word(s, b"false", 5)
    return scan_number(s)


cdef enum:
    HAS_BODY = 1
    HAS_TYPE = 2
    HAS_ENCODING = 4
    HAS_HEADERS = 8
    HAS_PROPERTIES = 16
    HAS_TASK = 32
    HAS_ID = 64
    HAS_TAG = 128
    HAS_INFO = 256
    HAS_BODY_ENCODING = 512
    HAS_EXCHANGE = 1024
    HAS_ROUTING_KEY = 2048
    HAS_ALL = 4095


cdef inline bint once(Plain* out, uint32_t bit) noexcept nogil:
    # A key that matters may come once: of two, Python takes the last.
    if out.seen & bit:
        return False
    out.seen |= bit
    return True


cdef inline bint scan_text(Scan* s, Plain* out, uint32_t bit, Span* span) noexcept nogil:
    # A string that matters: once, not empty-handed, without escapes.
    return once(out, bit) and scan_string(s, span) and not s.escaped


cdef bint scan_exactly(Scan* s, Plain* out, uint32_t bit, const char* word, uint32_t size) noexcept nogil:
    cdef Span span
    return scan_text(s, out, bit, &span) and span_is(&span, word, size)


cdef bint scan_timelimit(Scan* s) noexcept nogil:
    # Plain is null or [null, null].
    if s.p < s.end and s.p[0] == 110:
        return scan_word(s, b"null", 4)
    return scan_word(s, b"[null, null]", 12)


cdef bint scan_header(Scan* s, Plain* out, Span* key) noexcept nogil:
    if key.size == 4 and memcmp(key.at, b"task", 4) == 0:
        return scan_text(s, out, HAS_TASK, &out.task) and out.task.size > 0
    if key.size == 2 and memcmp(key.at, b"id", 2) == 0:
        return scan_text(s, out, HAS_ID, &out.id) and out.id.size > 0
    if span_is(key, b"eta", 3) or span_is(key, b"expires", 7) or span_is(key, b"shadow", 6):
        return scan_word(s, b"null", 4)
    if span_is(key, b"timelimit", 9):
        return scan_timelimit(s)
    if span_is(key, b"compression", 11):
        return False
    return scan_value(s, 2)


cdef bint scan_headers(Scan* s, Plain* out) noexcept nogil:
    cdef bint more = True
    cdef Span key
    if s.p >= s.end or s.p[0] != 123 or open_empty(s, 125):
        return False
    while more:
        if not scan_key(s, &key) or not scan_header(s, out, &key) or not next_item(s, 125, &more):
            return False
    return True


cdef bint scan_delivery_info(Scan* s, Plain* out) noexcept nogil:
    cdef bint more = True, fine
    cdef Span key, span
    if s.p >= s.end or s.p[0] != 123 or open_empty(s, 125):
        return False
    while more:
        if not scan_key(s, &key):
            return False
        if span_is(&key, b"exchange", 8):
            fine = scan_text(s, out, HAS_EXCHANGE, &span)
        elif span_is(&key, b"routing_key", 11):
            fine = scan_text(s, out, HAS_ROUTING_KEY, &span)
        else:
            fine = scan_value(s, 3)
        if not fine or not next_item(s, 125, &more):
            return False
    return True


cdef bint scan_property(Scan* s, Plain* out, Span* key) noexcept nogil:
    cdef Span span
    if span_is(key, b"delivery_info", 13):
        return once(out, HAS_INFO) and scan_delivery_info(s, out)
    if span_is(key, b"delivery_tag", 12):
        return scan_text(s, out, HAS_TAG, &span)
    if span_is(key, b"body_encoding", 13):
        return scan_exactly(s, out, HAS_BODY_ENCODING, b"base64", 6)
    return scan_value(s, 2)


cdef bint scan_properties(Scan* s, Plain* out) noexcept nogil:
    cdef bint more = True
    cdef Span key
    if s.p >= s.end or s.p[0] != 123 or open_empty(s, 125):
        return False
    while more:
        if not scan_key(s, &key) or not scan_property(s, out, &key) or not next_item(s, 125, &more):
            return False
    return True


cdef bint scan_part(Scan* s, Plain* out, Span* key) noexcept nogil:
    if span_is(key, b"body", 4):
        return scan_text(s, out, HAS_BODY, &out.body)
    if span_is(key, b"content-type", 12):
        return scan_exactly(s, out, HAS_TYPE, b"application/json", 16)
    if span_is(key, b"content-encoding", 16):
        return scan_exactly(s, out, HAS_ENCODING, b"utf-8", 5)
    if span_is(key, b"headers", 7):
        return once(out, HAS_HEADERS) and scan_headers(s, out)
    if span_is(key, b"properties", 10):
        return once(out, HAS_PROPERTIES) and scan_properties(s, out)
    return scan_value(s, 1)


cdef bint scan_envelope(const char* data, size_t size, Plain* out) noexcept nogil:
    # True: a plain message, and `out` says where its parts lie in `data`.
    cdef Scan s
    cdef bint more = True
    cdef Span key
    s.p, s.end, s.escaped, s.declined = data, data + size, False, False
    out.seen = 0
    if size == 0 or size > 0x7fffffff:
        return False
    skip_space(&s)
    if s.p >= s.end or s.p[0] != 123 or open_empty(&s, 125):
        return False
    while more:
        if not scan_key(&s, &key) or not scan_part(&s, out, &key) or not next_item(&s, 125, &more):
            return False
    # A body that is no array (its first byte is not '[', W in base64) is not protocol 2's.
    return s.p == s.end and out.seen == HAS_ALL and out.body.size > 0 and out.body.at[0] == 87


def scan(bytes envelope not None):
    """(task, id, body) of a plain envelope as text, text and base64 bytes; None: Python has to read it."""
    cdef Plain plain
    if not FAST or not scan_envelope(<char*>envelope, len(envelope), &plain):
        return None
    return (
        plain.task.at[: plain.task.size].decode("ascii"),
        plain.id.at[: plain.id.size].decode("ascii"),
        plain.body.at[: plain.body.size],
    )
