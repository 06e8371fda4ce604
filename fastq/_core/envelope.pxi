# A scan of plain kombu envelopes: one pass over the JSON, no Python object.
#
# The law: for all bytes b, scan(b) is None or scan(b) == what wire.envelope.read_header says of b. Whatever is unusual
# (an ETA, an expiry, another serializer, an escape in a field that matters) is declined, and Python reads it. So this
# part may be ignorant, never wrong.
#
# Clients write the members of an envelope in the same order, with the same white space, and half of them with the same
# values. So the scan compares what comes with the usual text first (*hints*), and takes a text apart only where it is
# another. A hint says nothing that the scan would not find out without it.

from libc.string cimport strlen

cdef enum:
    # What has been seen of the members that an envelope must have, each once: of two, Python takes the last.
    HAS_TASK = 1
    HAS_ID = 2
    HAS_BODY = 4
    HAS_TYPE = 8
    HAS_ENCODING = 16
    HAS_HEADERS = 32
    HAS_PROPERTIES = 64
    HAS_INFO = 128
    HAS_TAG = 256
    HAS_BODY_ENCODING = 512
    HAS_EXCHANGE = 1024
    HAS_ROUTING_KEY = 2048
    HAS_ALL = 4095

cdef enum Meaning:
    # What the value behind a key is.
    ANYTHING                # any JSON
    NOTHING                 # null, or it is not plain
    THE_ETA                 # null, or anything if that has come
    NO_LIMITS               # null or [null, null]
    UNUSUAL                 # whatever it is, it is not plain
    PASSED                  # passed over already, with the key
    THE_TASK
    THE_ID
    THE_BODY
    THE_TYPE
    THE_ENCODING
    THE_HEADERS
    THE_PROPERTIES
    THE_INFO
    THE_TAG
    THE_BODY_ENCODING
    THE_EXCHANGE
    THE_ROUTING_KEY
    THE_STAMPS

cdef enum:
    # The objects of an envelope whose members matter; their depth as values.
    IN_ENVELOPE = 0
    IN_HEADERS = 1
    IN_PROPERTIES = 2
    IN_DELIVERY_INFO = 3

cdef struct Hint:           # a usual text, from behind one value to the beginning of another
    const char* text
    uint32_t size
    uint32_t has            # what it says itself
    Meaning then            # what begins behind it

cdef struct Hints:
    Hint at[16]
    uint32_t count

cdef Hints HINTS[4]


cdef int add_hint(int where, const char* text, Meaning then, uint32_t has=0) except -1:
    cdef Hints* hints = &HINTS[where]
    if hints.count == 16:
        raise OverflowError("too many hints: enlarge Hints")
    hints.at[hints.count].text, hints.at[hints.count].size = text, <uint32_t>strlen(text)
    hints.at[hints.count].then, hints.at[hints.count].has = then, has
    hints.count += 1
    return 0


cdef int add_hints() except -1:
    # In the order of the members; the longest first, its parts behind it for when the whole does not fit.
    add_hint(IN_ENVELOPE, b'"body": ', THE_BODY)
    add_hint(IN_ENVELOPE, b', "content-encoding": "utf-8", "content-type": "application/json", "headers": ',
             THE_HEADERS, HAS_ENCODING | HAS_TYPE)
    add_hint(IN_ENVELOPE, b', "properties": ', THE_PROPERTIES)

    add_hint(IN_HEADERS, b'"lang": "py", "task": ', THE_TASK)
    add_hint(IN_HEADERS, b', "id": ', THE_ID)
    add_hint(IN_HEADERS, b', "shadow": null, "eta": null, "expires": null, "group": null, "group_index": null, '
             b'"retries": 0, "timelimit": [null, null], "root_id": ', ANYTHING)
    add_hint(IN_HEADERS, b', "shadow": null, "eta": null, "expires": null, "group": ', ANYTHING)
    add_hint(IN_HEADERS, b', "group_index": ', ANYTHING)
    add_hint(IN_HEADERS, b', "retries": ', ANYTHING)
    add_hint(IN_HEADERS, b', "timelimit": [null, null], "root_id": ', ANYTHING)
    add_hint(IN_HEADERS, b', "parent_id": ', ANYTHING)
    add_hint(IN_HEADERS, b', "argsrepr": ', ANYTHING)
    add_hint(IN_HEADERS, b', "kwargsrepr": ', ANYTHING)
    add_hint(IN_HEADERS, b', "origin": ', ANYTHING)
    add_hint(IN_HEADERS, b', "ignore_result": false, "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {}',
             PASSED)
    add_hint(IN_HEADERS, b', "ignore_result": ', ANYTHING)
    add_hint(IN_HEADERS, b', "replaced_task_nesting": ', ANYTHING)
    add_hint(IN_HEADERS, b', "stamped_headers": ', THE_STAMPS)
    add_hint(IN_HEADERS, b', "stamps": ', ANYTHING)

    add_hint(IN_PROPERTIES, b'"correlation_id": ', ANYTHING)
    add_hint(IN_PROPERTIES, b', "reply_to": ', ANYTHING)
    add_hint(IN_PROPERTIES, b', "delivery_mode": 2, "delivery_info": ', THE_INFO)
    add_hint(IN_PROPERTIES, b', "priority": 0, "body_encoding": "base64", "delivery_tag": ', THE_TAG, HAS_BODY_ENCODING)
    add_hint(IN_PROPERTIES, b', "priority": ', ANYTHING)
    add_hint(IN_PROPERTIES, b', "body_encoding": "base64", "delivery_tag": ', THE_TAG, HAS_BODY_ENCODING)

    add_hint(IN_DELIVERY_INFO, b'"exchange": ', THE_EXCHANGE)
    add_hint(IN_DELIVERY_INFO, b', "routing_key": ', THE_ROUTING_KEY)
    return 0


add_hints()

cdef struct Plain:
    Span task, id, body
    uint32_t seen
    bint stamped            # its stamped_headers are something else than null
    bint packed             # it is of wire "fastq"
    bint due                # its time has come, so its eta may be anything


cdef inline bint once(Plain* out, uint32_t bits) noexcept nogil:
    if out.seen & bits:
        return False
    out.seen |= bits
    return True


cdef inline bint scan_text(Scan* s, Plain* out, uint32_t bit, Span* span) noexcept nogil:
    # A string that matters: once, without escapes.
    return once(out, bit) and scan_string(s, span) and not s.escaped


cdef bint scan_exactly(Scan* s, Plain* out, uint32_t bit, const char* word, uint32_t size) noexcept nogil:
    cdef Span span
    return scan_text(s, out, bit, &span) and span_is(&span, word, size)


cdef bint scan_timelimit(Scan* s) noexcept nogil:
    # Plain is null or [null, null].
    if s.p < s.end and s.p[0] == 110:
        return scan_word(s, b"null", 4)
    return scan_word(s, b"[null, null]", 12)


cdef bint scan_stamps(Scan* s, Plain* out) noexcept nogil:
    # Any value: stamps matter only while somebody has revoked some.
    if s.p < s.end and s.p[0] == 110:
        return scan_word(s, b"null", 4)
    out.stamped = True
    return scan_value(s, IN_HEADERS + 1)


cdef Meaning meaning_in_headers(Span* key) noexcept nogil:
    if span_is(key, b"task", 4):
        return THE_TASK
    if span_is(key, b"id", 2):
        return THE_ID
    if span_is(key, b"eta", 3):
        return THE_ETA
    if span_is(key, b"expires", 7) or span_is(key, b"shadow", 6):
        return NOTHING
    if span_is(key, b"timelimit", 9):
        return NO_LIMITS
    if span_is(key, b"stamped_headers", 15):
        return THE_STAMPS
    return UNUSUAL if span_is(key, b"compression", 11) else ANYTHING


cdef Meaning meaning_in_properties(Span* key) noexcept nogil:
    if span_is(key, b"delivery_info", 13):
        return THE_INFO
    if span_is(key, b"delivery_tag", 12):
        return THE_TAG
    return THE_BODY_ENCODING if span_is(key, b"body_encoding", 13) else ANYTHING


cdef Meaning meaning_in_envelope(Span* key) noexcept nogil:
    if span_is(key, b"body", 4):
        return THE_BODY
    if span_is(key, b"content-type", 12):
        return THE_TYPE
    if span_is(key, b"content-encoding", 16):
        return THE_ENCODING
    if span_is(key, b"headers", 7):
        return THE_HEADERS
    return THE_PROPERTIES if span_is(key, b"properties", 10) else ANYTHING


cdef Meaning meaning_of(int where, Span* key) noexcept nogil:
    if where == IN_HEADERS:
        return meaning_in_headers(key)
    if where == IN_PROPERTIES:
        return meaning_in_properties(key)
    if where == IN_ENVELOPE:
        return meaning_in_envelope(key)
    if span_is(key, b"exchange", 8):
        return THE_EXCHANGE
    return THE_ROUTING_KEY if span_is(key, b"routing_key", 11) else ANYTHING


cdef bint scan_meant(Scan* s, Plain* out, Meaning meaning, int where) noexcept nogil:
    # The value of a member: checked, noted if it matters, passed over.
    cdef Span span
    if meaning == ANYTHING:
        return scan_value(s, where + 1)
    if meaning == PASSED:
        return True
    if meaning == NOTHING:
        return scan_word(s, b"null", 4)
    if meaning == THE_ETA:
        return scan_value(s, where + 1) if out.due else scan_word(s, b"null", 4)
    if meaning == NO_LIMITS:
        return scan_timelimit(s)
    if meaning == THE_TASK:
        return scan_text(s, out, HAS_TASK, &out.task) and out.task.size > 0
    if meaning == THE_ID:
        return scan_text(s, out, HAS_ID, &out.id) and out.id.size > 0
    if meaning == THE_BODY:
        return scan_text(s, out, HAS_BODY, &out.body)
    if meaning == THE_TAG:
        return scan_text(s, out, HAS_TAG, &span)
    if meaning == THE_EXCHANGE:
        return scan_text(s, out, HAS_EXCHANGE, &span)
    if meaning == THE_ROUTING_KEY:
        return scan_text(s, out, HAS_ROUTING_KEY, &span)
    if meaning == THE_STAMPS:
        return scan_stamps(s, out)
    if meaning == THE_HEADERS:
        return once(out, HAS_HEADERS) and scan_members(s, out, IN_HEADERS)
    if meaning == THE_PROPERTIES:
        return once(out, HAS_PROPERTIES) and scan_members(s, out, IN_PROPERTIES)
    if meaning == THE_INFO:
        return once(out, HAS_INFO) and scan_members(s, out, IN_DELIVERY_INFO)
    if meaning == THE_TYPE:
        return scan_exactly(s, out, HAS_TYPE, b"application/json", 16)
    if meaning == THE_ENCODING:
        return scan_exactly(s, out, HAS_ENCODING, b"utf-8", 5)
    if meaning == THE_BODY_ENCODING:
        return scan_exactly(s, out, HAS_BODY_ENCODING, b"base64", 6)
    return False            # UNUSUAL


cdef inline Hint* next_hint(Scan* s, Hint* hint, Hint* last) noexcept nogil:
    # The first hint from `hint` on that fits, and is used up; NULL: something else comes.
    while hint < last:
        if <size_t>(s.end - s.p) >= hint.size and memcmp(s.p, hint.text, hint.size) == 0:
            s.p += hint.size
            return hint
        hint += 1
    return NULL


cdef bint scan_members(Scan* s, Plain* out, int where) noexcept nogil:
    # An object of the envelope, from its opening bracket to behind the closing one. A hint that was passed over serves
    # no more, so that none is tried in vain again and again; the first serves only before the first member.
    cdef Hint* at = HINTS[where].at + 1
    cdef Hint* last = HINTS[where].at + HINTS[where].count
    cdef Hint* hint
    cdef bint more = True
    cdef Span key
    if s.p >= s.end or s.p[0] != 123 or open_empty(s, 125):
        return False
    hint = next_hint(s, HINTS[where].at, at)
    while more:
        if hint == NULL:
            if not scan_key(s, &key) or not scan_meant(s, out, meaning_of(where, &key), where):
                return False
        else:
            if hint >= at:
                at = hint + 1
            if not once(out, hint.has) or not scan_meant(s, out, hint.then, where):
                return False
        hint = next_hint(s, at, last)
        if hint == NULL and not next_item(s, 125, &more):
            return False
    return True


cdef bint scan_envelope(const char* data, size_t size, Plain* out, bint due=False) noexcept nogil:
    # True: a plain message (but for its eta, if that is `due`), and `out` says where its parts lie in `data`.
    cdef Scan s
    s.p, s.end, s.escaped, s.declined = data, data + size, False, False
    out.seen, out.stamped, out.packed, out.due = 0, False, False, due
    if size > 0x7fffffff:
        return False
    skip_space(&s)
    if not scan_members(&s, out, IN_ENVELOPE):
        return False
    # A body that is no array (its first byte is not '[', W in base64) is not protocol 2's.
    return s.p == s.end and out.seen == HAS_ALL and out.body.size > 0 and out.body.at[0] == 87
