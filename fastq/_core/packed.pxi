# A scan of messages of wire "fastq" (wire/packed.py is the specification), and what a child needs of their options.
#
# The law is that of the scan of envelopes: whatever is unusual is declined, and Python reads it. One walk over all of a
# message: a body that is not whole must not get as far as a child.

from cpython.unicode cimport PyUnicode_DecodeASCII

cdef extern from "<string.h>" nogil:
    void* memmem(const void*, size_t, const void*, size_t)

cdef enum:
    PACKED_FIRST = 0x96     # an array of six; no JSON text begins so
    PACKED_VERSION = 1
    UUID_SIZE = 16
    UUID_TEXT = 36


cdef inline bint is_raw_id(const char* at, uint32_t size) noexcept nogil:
    # Whether the id at this place is the bytes of a UUID. The text before an id of text ends in ASCII.
    return size == UUID_SIZE and <uint8_t>(at - 2)[0] == 0xc4 and (at - 1)[0] == UUID_SIZE


cdef void write_uuid(const char* raw, char* out) noexcept nogil:
    # As Python's str(UUID).
    cdef const char* hexes = b"0123456789abcdef"
    cdef int i
    for i in range(UUID_SIZE):
        if i == 4 or i == 6 or i == 8 or i == 10:
            out[0] = 45
            out += 1
        out[0], out[1] = hexes[<uint8_t>raw[i] >> 4], hexes[<uint8_t>raw[i] & 15]
        out += 2


cdef object text_of_id(const char* at, uint32_t size):
    cdef char text[UUID_TEXT]
    if not is_raw_id(at, size):
        return PyUnicode_DecodeASCII(at, size, NULL)
    write_uuid(at, text)
    return PyUnicode_DecodeASCII(text, UUID_TEXT, NULL)


cdef inline bint read_size(Scan* s, int width, uint64_t* size) noexcept nogil:
    # A number of `width` bytes, the greatest first.
    size[0] = 0
    if s.end - s.p < width:
        return False
    while width:
        size[0] = size[0] << 8 | <uint8_t>s.p[0]
        s.p += 1
        width -= 1
    return True


cdef inline bint pass_bytes(Scan* s, uint64_t size) noexcept nogil:
    if <uint64_t>(s.end - s.p) < size:
        return False
    s.p += size
    return True


cdef inline bint pass_sized(Scan* s, int width, uint32_t more) noexcept nogil:
    cdef uint64_t size
    return read_size(s, width, &size) and pass_bytes(s, size + more)


cdef inline bint is_text(uint8_t c) noexcept nogil:
    return c >> 5 == 5 or 0xd9 <= c <= 0xdb


cdef inline int width_of(uint8_t c) noexcept nogil:
    # Bytes behind a value's first byte, for values of one size; -1 for all others.
    if c < 0x80 or c >= 0xe0 or c == 0xc0 or c == 0xc2 or c == 0xc3:
        return 0
    if c == 0xcc or c == 0xd0:
        return 1
    if c == 0xcd or c == 0xd1:
        return 2
    if c == 0xca or c == 0xce or c == 0xd2:
        return 4
    if c == 0xcb or c == 0xcf or c == 0xd3:
        return 8
    if 0xd4 <= c <= 0xd8:
        return 1 + (1 << (c - 0xd4))
    return -1


cdef bint pass_string(Scan* s, uint8_t c) noexcept nogil:
    # Behind the first byte of a text, bytes, or an extension of any size.
    if c >> 5 == 5:
        return pass_bytes(s, c & 31)
    if 0xc4 <= c <= 0xc6:
        return pass_sized(s, 1 << (c - 0xc4), 0)
    if 0xc7 <= c <= 0xc9:
        return pass_sized(s, 1 << (c - 0xc7), 1)
    return 0xd9 <= c <= 0xdb and pass_sized(s, 1 << (c - 0xd9), 0)


cdef inline bint read_container(Scan* s, uint8_t c, uint64_t* items, bint* is_map) noexcept nogil:
    # Behind its first byte. False: it is none, or not whole. A map's keys and values are items.
    is_map[0] = c >> 4 == 8 or c >= 0xde
    if c >> 5 == 4:
        items[0] = c & 15
    elif not 0xdc <= c <= 0xdf or not read_size(s, 4 if c & 1 else 2, items):
        return False
    if is_map[0]:
        items[0] *= 2
    return True


cdef bint scan_word_of(Scan* s, Span* span) noexcept nogil:
    # A text of at least one character, ASCII that JSON writes as it is.
    cdef uint64_t size
    cdef uint8_t c
    if s.p >= s.end:
        return False
    c = <uint8_t>s.p[0]
    s.p += 1
    if c >> 5 == 5:
        size = c & 31
    elif not 0xd9 <= c <= 0xdb or not read_size(s, 1 << (c - 0xd9), &size):
        return False
    if size == 0 or <uint64_t>(s.end - s.p) < size:
        return False
    span.at, span.size = s.p, <uint32_t>size
    s.p += size
    return fq_find_stop(span.at, s.p) == s.p


cdef bint pass_packed(Scan* s, bint simple) noexcept nogil:
    # Any one value. Keys have to be text: what others would become in JSON is Python's business. `simple`: no
    # extensions, and text only if JSON writes it as it is; then there is nothing in it that could not be decoded.
    cdef uint64_t left[DEEPEST + 1]         # items to come, by level
    cdef bint is_map[DEEPEST + 1]
    cdef int level = 0, width
    cdef uint8_t c
    cdef Span word
    left[0], is_map[0] = 1, False
    while level >= 0:
        if left[level] == 0:
            level -= 1
            continue
        if s.p >= s.end:
            return False
        c = <uint8_t>s.p[0]
        s.p += 1
        if is_map[level] and left[level] % 2 == 0 and not is_text(c):
            return False
        left[level] -= 1
        width = width_of(c)
        if width >= 0:
            if not pass_bytes(s, width):
                return False
            if simple and 0xd4 <= c <= 0xd8:
                return False
        elif is_text(c) and simple:
            s.p -= 1
            if not scan_word_of(s, &word):
                return False
        elif simple and 0xc7 <= c <= 0xc9:
            return False
        elif not pass_string(s, c):
            level += 1
            if level > DEEPEST or not read_container(s, c, &left[level], &is_map[level]):
                return False
    return True


cdef bint scan_packed_id(Scan* s, Span* span) noexcept nogil:
    if s.end - s.p >= 2 + UUID_SIZE and <uint8_t>s.p[0] == 0xc4 and s.p[1] == UUID_SIZE:
        span.at, span.size = s.p + 2, UUID_SIZE
        s.p += 2 + UUID_SIZE
        return True
    return scan_word_of(s, span)


cdef inline bint pass_nil(Scan* s) noexcept nogil:
    if s.p < s.end and <uint8_t>s.p[0] == 0xc0:
        s.p += 1
        return True
    return False


cdef bint scan_count(Scan* s) noexcept nogil:
    # A number from 0 to 127.
    if s.p >= s.end or <uint8_t>s.p[0] >= 0x80:
        return False
    s.p += 1
    return True


cdef bint scan_map(Scan* s) noexcept nogil:
    cdef uint8_t c = <uint8_t>s.p[0] if s.p < s.end else 0
    return (c >> 4 == 8 or c == 0xde or c == 0xdf) and pass_packed(s, True)


cdef struct Said:                       # what the options say that matters
    int ignore_result                   # -1: nothing
    bint canvas                         # callbacks, a chain, a chord
    Span group, parent                  # size 0: none


cdef bint scan_flag(Scan* s, int* flag) noexcept nogil:
    cdef uint8_t c = <uint8_t>s.p[0] if s.p < s.end else 0
    s.p += 1
    flag[0] = -1 if c == 0xc0 else c & 1
    return c == 0xc0 or c == 0xc2 or c == 0xc3


cdef bint scan_option(Scan* s, Span* key, Said* said) noexcept nogil:
    cdef Span other
    if span_is(key, b"group", 5):
        said.group.size = 0
        return pass_nil(s) or scan_packed_id(s, &said.group)
    if span_is(key, b"parent_id", 9):
        said.parent.size = 0
        return pass_nil(s) or scan_packed_id(s, &said.parent)
    if span_is(key, b"root_id", 7):
        return pass_nil(s) or scan_packed_id(s, &other)
    if span_is(key, b"ignore_result", 13):
        return scan_flag(s, &said.ignore_result)
    if span_is(key, b"group_index", 11):
        return pass_nil(s) or scan_count(s)
    if span_is(key, b"retries", 7) or span_is(key, b"priority", 8) or span_is(key, b"replaced_task_nesting", 21):
        return scan_count(s)
    if span_is(key, b"headers", 7):
        return pass_nil(s) or scan_map(s)
    if span_is(key, b"reply_to", 8) or span_is(key, b"origin", 6):
        return pass_nil(s) or scan_word_of(s, &other)
    if span_is(key, b"argsrepr", 8) or span_is(key, b"kwargsrepr", 10):
        return pass_nil(s) or scan_word_of(s, &other)
    if span_is(key, b"chain", 5) or span_is(key, b"chord", 5):
        said.canvas = True
        return pass_packed(s, False)
    if span_is(key, b"callbacks", 9) or span_is(key, b"errbacks", 8):
        said.canvas = True
        return pass_packed(s, False)
    return False            # a time, a limit, a stamp, or something new


cdef bint scan_options(Scan* s, Said* said) noexcept nogil:
    cdef uint64_t items
    cdef bint is_map
    cdef Span key
    cdef uint8_t c
    said.ignore_result, said.canvas = -1, False
    said.group.at = said.parent.at = NULL
    said.group.size = said.parent.size = 0
    if pass_nil(s):
        return True
    if s.p >= s.end:
        return False
    c = <uint8_t>s.p[0]
    s.p += 1
    if not read_container(s, c, &items, &is_map) or not is_map:
        return False
    while items:
        if not scan_word_of(s, &key) or not scan_option(s, &key, said):
            return False
        items -= 2
    return True


cdef bint scan_before_body(Scan* s, Span* task, Span* id, Said* said) noexcept nogil:
    cdef Span queue
    if s.end - s.p < 2 or <uint8_t>s.p[0] != PACKED_FIRST or s.p[1] != PACKED_VERSION:
        return False
    s.p += 2
    return scan_word_of(s, task) and scan_packed_id(s, id) and scan_word_of(s, &queue) and scan_options(s, said)


cdef bint scan_packed(const char* data, size_t size, Plain* out) noexcept nogil:
    # True: a plain message, and `out` says where its parts lie in `data`.
    cdef Scan s
    cdef Said said
    s.p, s.end = data, data + size
    if size > 0x7fffffff or not scan_before_body(&s, &out.task, &out.id, &said):
        return False
    out.stamped, out.packed = False, True
    out.body.at, out.body.size = s.p, <uint32_t>(s.end - s.p)
    return out.body.size >= 3 and <uint8_t>s.p[0] == 0x92 and pass_packed(&s, False) and s.p == s.end


cdef inline bint scan_message(const char* data, size_t size, Plain* out) noexcept nogil:
    # A plain message of either wire.
    if size and <uint8_t>data[0] == PACKED_FIRST:
        return scan_packed(data, size, out)
    return scan_envelope(data, size, out)


cdef inline object id_bytes(Plain* plain):
    # The id as it stands in the keys of results.
    cdef char text[UUID_TEXT]
    if plain.packed and is_raw_id(plain.id.at, plain.id.size):
        write_uuid(plain.id.at, text)
        return text[:UUID_TEXT]
    return plain.id.at[: plain.id.size]


def plain_name(bytes envelope not None):
    """(task, id) of a plain message without stamps; None: Python has to read it."""
    cdef Plain plain
    if not FAST or not scan_message(<char*>envelope, len(envelope), &plain) or plain.stamped:
        return None
    return plain.task.at[: plain.task.size].decode("ascii"), id_bytes(&plain).decode("ascii")


def scan(bytes envelope not None):
    """(task, id, body) of a plain message as text, text and bytes, the body as it stands there (JSON in base64, or
    MessagePack); None: Python has to read it."""
    cdef Plain plain
    if not FAST or not scan_message(<char*>envelope, len(envelope), &plain):
        return None
    return (
        plain.task.at[: plain.task.size].decode("ascii"),
        text_of_id(plain.id.at, plain.id.size) if plain.packed else plain.id.at[: plain.id.size].decode("ascii"),
        plain.body.at[: plain.body.size],
    )
