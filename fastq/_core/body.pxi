# What a plain task's envelope says beyond its frame: three headers, and the arguments in the base64 body.
#
# The scan has checked the envelope as JSON and found the spans of id and body. Here too, the unusual is declined.

cdef extern from "<string.h>" nogil:
    void* memrchr(const void*, int, size_t)

cdef extern from *:
    """
    /* Digits of base64; 0xff for anything else. */
    static const unsigned char fq_digit[256] = {
    #define X 0xff
        X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X, X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,
        X,X,X,X,X,X,X,X,X,X,X,62,X,X,X,63, 52,53,54,55,56,57,58,59,60,61,X,X,X,X,X,X,
        X,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14, 15,16,17,18,19,20,21,22,23,24,25,X,X,X,X,X,
        X,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40, 41,42,43,44,45,46,47,48,49,50,51,X,X,X,X,X,
        X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X, X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,
        X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X, X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,
        X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X, X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,
        X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X, X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,X,
    #undef X
    };
    /* Bytes written, or -1 for text that is not canonical base64. `out` has room for 3 bytes per 4 characters. */
    static inline Py_ssize_t fq_unbase64(const char *text, size_t n, char *out) {
        const unsigned char *p = (const unsigned char *)text, *end = p + n;
        unsigned char *o = (unsigned char *)out, a, b, c, d;
        size_t pads = 0;
        if (n == 0 || n % 4) return -1;
        if (end[-1] == '=') pads = end[-2] == '=' ? 2 : 1;
        for (; p < end - (pads ? 4 : 0); p += 4) {
            a = fq_digit[p[0]]; b = fq_digit[p[1]]; c = fq_digit[p[2]]; d = fq_digit[p[3]];
            if ((a | b | c | d) & 0xc0) return -1;
            *o++ = (unsigned char)(a << 2 | b >> 4);
            *o++ = (unsigned char)(b << 4 | c >> 2);
            *o++ = (unsigned char)(c << 6 | d);
        }
        if (pads) {
            a = fq_digit[p[0]]; b = fq_digit[p[1]]; c = pads == 1 ? fq_digit[p[2]] : 0;
            if ((a | b | c) & 0xc0) return -1;
            *o++ = (unsigned char)(a << 2 | b >> 4);
            if (pads == 1) *o++ = (unsigned char)(b << 4 | c >> 2);
        }
        return (char *)o - out;
    }

    /* True if JSON text may hold the key `__type__`, written plainly or with escapes of ASCII letters. */
    static inline int fq_may_be_marked(const char *text, size_t n) {
        const char *p = text, *end = text + n;
        if (memmem(text, n, "__type__", 8)) return 1;
        while ((p = (const char *)memchr(p, '\\\\', (size_t)(end - p))) != NULL) {
            if (end - p >= 6 && p[1] == 'u' && p[2] == '0' && p[3] == '0' && p[4] >= '5' && p[4] <= '7') return 1;
            p += 2;
            if (p >= end) break;
        }
        return 0;
    }
    """
    Py_ssize_t fq_unbase64(const char*, size_t, char*) noexcept nogil
    bint fq_may_be_marked(const char*, size_t) noexcept nogil

# What Celery's client writes behind the arguments of a task without canvas.
cdef const char* NO_CANVAS = b', {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
cdef size_t NO_CANVAS_SIZE = 70

cdef struct Head:                       # what the headers say that the frame does not
    int ignore_result                   # -1: left to the task
    Span group, parent                  # size 0: none
    char texts[2][UUID_TEXT]            # of both, where the message has bytes


cdef inline void write_name(Span* id, char* text) noexcept nogil:
    # An id that is bytes becomes its text.
    if id.size and is_raw_id(id.at, id.size):
        write_uuid(id.at, text)
        id.at, id.size = text, UUID_TEXT


cdef bint read_packed_head(const char* data, uint32_t size, Head* head) noexcept nogil:
    # False: something unusual. The message is known to be plain. The spans are good as long as `head` is.
    cdef Scan s
    cdef Span task, id
    cdef Said said
    s.p, s.end = data, data + size
    if not scan_before_body(&s, &task, &id, &said) or said.canvas:
        return False
    head.ignore_result, head.group, head.parent = said.ignore_result, said.group, said.parent
    write_name(&head.group, head.texts[0])
    write_name(&head.parent, head.texts[1])
    return True


cdef bint read_flag(Scan* s, int* flag) noexcept nogil:
    if scan_word(s, b"null", 4):
        flag[0] = -1
    elif scan_word(s, b"true", 4):
        flag[0] = 1
    elif scan_word(s, b"false", 5):
        flag[0] = 0
    else:
        return False
    return True


cdef bint read_name(Scan* s, Span* name) noexcept nogil:
    # null, or text without escapes.
    if scan_word(s, b"null", 4):
        name.size = 0
        return True
    return scan_string(s, name) and not s.escaped


cdef bint read_header_value(Scan* s, Span* key, Head* head) noexcept nogil:
    if span_is(key, b"ignore_result", 13):
        return read_flag(s, &head.ignore_result)
    if span_is(key, b"group", 5):
        return read_name(s, &head.group)
    if span_is(key, b"parent_id", 9):
        return read_name(s, &head.parent)
    if span_is(key, b"shadow", 6):
        return scan_word(s, b"null", 4)
    return scan_value(s, 2)


cdef bint read_headers(Scan* s, Head* head) noexcept nogil:
    cdef bint more = True
    cdef Span key
    if s.p >= s.end or s.p[0] != 123 or open_empty(s, 125):
        return False
    while more:
        if not scan_key(s, &key) or not read_header_value(s, &key, head) or not next_item(s, 125, &more):
            return False
    return True


cdef bint read_head(const char* data, uint32_t size, Head* head) noexcept nogil:
    # False: something unusual. The envelope is known to be plain, so `headers` is there, once.
    cdef Scan s
    cdef bint more = True
    cdef Span key
    s.p, s.end, s.escaped, s.declined = data, data + size, False, False
    head.ignore_result, head.group.size, head.parent.size = -1, 0, 0
    skip_space(&s)
    if s.p >= s.end or s.p[0] != 123 or open_empty(&s, 125):
        return False
    while more:
        if not scan_key(&s, &key):
            return False
        if span_is(&key, b"headers", 7):
            return read_headers(&s, head)
        if not scan_value(&s, 1) or not next_item(&s, 125, &more):
            return False
    return False


# The text before and behind a task's name and id as Celery's client writes it, and what ends the headers.
cdef const char* BEFORE_TASK = b'{"lang": "py", "task": "'
cdef const char* BEFORE_ID = b'", "id": "'
cdef const char* BEHIND_ID = b'", "shadow": null, "eta": null, "expires": null, "group": '
cdef const char* NO_GROUP = b', "group_index": null, "retries": 0, "timelimit": [null, null], "root_id": '
cdef const char* HEADERS_END = b', "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {}}'


cdef inline bint expect(Scan* s, const char* text) noexcept nogil:
    return scan_word(s, text, <int>strlen(text))


cdef inline bint begins_as_usual(const char* data, const char* id) noexcept nogil:
    # Whether the headers begin with nothing but language, task and the id at this place, a character behind its quote.
    cdef const char* end = id - strlen(BEFORE_ID)
    cdef const char* name
    if end <= data or memcmp(end, BEFORE_ID, strlen(BEFORE_ID)) != 0:
        return False
    name = <const char*>memrchr(data, 34, end - data)
    if name == NULL or name + 1 - data < <Py_ssize_t>strlen(BEFORE_TASK):
        return False
    return memcmp(name + 1 - strlen(BEFORE_TASK), BEFORE_TASK, strlen(BEFORE_TASK)) == 0


cdef bint read_group(Scan* s, Head* head) noexcept nogil:
    # From the value of `group` to that of `root_id`.
    if not read_name(s, &head.group):
        return False
    if expect(s, NO_GROUP):
        return True
    return (expect(s, b', "group_index": ') and scan_value(s, 2) and expect(s, b', "retries": ') and scan_value(s, 2)
            and expect(s, b', "timelimit": [null, null], "root_id": '))


cdef bint read_usual_head(const char* data, fq_frame* frame, Head* head) noexcept nogil:
    # What `read_head` finds, where the headers are exactly those of Celery's client, one behind the other: each is
    # there once, so nothing else has to be looked at. False: they are not, or something is unusual.
    cdef Scan s
    if not begins_as_usual(data, data + frame.id_at):
        return False
    s.p, s.end, s.escaped, s.declined = data + frame.id_at + frame.id_len, data + frame.payload_len, False, False
    return (expect(&s, BEHIND_ID) and read_group(&s, head) and scan_value(&s, 2)
            and expect(&s, b', "parent_id": ') and read_name(&s, &head.parent)
            and expect(&s, b', "argsrepr": ') and scan_value(&s, 2)
            and expect(&s, b', "kwargsrepr": ') and scan_value(&s, 2)
            and expect(&s, b', "origin": ') and scan_value(&s, 2)
            and expect(&s, b', "ignore_result": ') and read_flag(&s, &head.ignore_result)
            and expect(&s, HEADERS_END))


def usual_head_of(bytes envelope not None, int id_at, int id_len):
    """The same as `head_of` by the short way, given where the id lies; None if that is not open. For tests."""
    cdef Head head
    cdef fq_frame frame
    frame.id_at, frame.id_len, frame.payload_len = id_at, id_len, len(envelope)
    return head_as_tuple(&head) if read_usual_head(<char*>envelope, &frame, &head) else None


cdef head_as_tuple(Head* head):
    return (
        None if head.ignore_result < 0 else bool(head.ignore_result),
        head.group.at[: head.group.size] if head.group.size else None,
        head.parent.at[: head.parent.size] if head.parent.size else None,
    )


def head_of(bytes envelope not None):
    """(ignore_result, group, parent_id) of a plain message; None if it is unusual. For tests."""
    cdef Head head
    cdef bint packed = len(envelope) > 0 and <uint8_t>envelope[0] == PACKED_FIRST
    cdef bint found
    if packed:
        found = read_packed_head(<char*>envelope, len(envelope), &head)
    else:
        found = read_head(<char*>envelope, len(envelope), &head)
    return head_as_tuple(&head) if found else None


def unbase64(bytes text not None):
    """Decode canonical base64; None for anything else. For tests."""
    cdef Buffer b
    cdef Py_ssize_t n
    b.data, b.size, b.room = NULL, 0, 0
    grow(&b, len(text))
    n = fq_unbase64(<char*>text, len(text), b.data)
    found = None if n < 0 else b.data[:n]
    free(b.data)
    return found
