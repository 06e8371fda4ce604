# A checker of JSON texts: passes over values, and declines whatever Python's json would treat in a special way.
#
# ASCII only. The whole text is checked, because a scan that skips over damage would run what Python would refuse.

cdef extern from *:
    """
    /* The first stop in a string: a quote, a backslash, a control character, or what is not ASCII; or `end`. */
    static inline int fq_is_stop(unsigned char c) { return c < 0x20 || c == '"' || c == 0x5c || c >= 0x80; }

    /* Bytes looked at together. -DFQ_STRIDE=8 or 1 builds what other processors get. */
    #ifndef FQ_STRIDE
    #if defined(__SSE2__)
    #define FQ_STRIDE 16
    #elif __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    #define FQ_STRIDE 8
    #else
    #define FQ_STRIDE 1
    #endif
    #endif

    #if FQ_STRIDE == 16
    #include <emmintrin.h>
    /* One bit per byte that is a stop. Signed bytes: what is not ASCII is less than a space, too. */
    static inline uint32_t fq_stops(const char *p) {
        __m128i x = _mm_loadu_si128((const __m128i *)p);
        __m128i quote = _mm_cmpeq_epi8(x, _mm_set1_epi8('"')), slash = _mm_cmpeq_epi8(x, _mm_set1_epi8(0x5c));
        __m128i other = _mm_cmplt_epi8(x, _mm_set1_epi8(0x20));
        return (uint32_t)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, slash), other));
    }
    static inline unsigned fq_first(uint32_t stops) { return (unsigned)__builtin_ctz(stops); }
    #elif FQ_STRIDE == 8
    /* The same in a word: the top bit of each byte. Borrows may set bits behind the first stop, never before it. */
    static inline uint64_t fq_stops(const char *p) {
        const uint64_t ones = 0x0101010101010101ull, tops = 0x8080808080808080ull;
        uint64_t x, quote, slash;
        __builtin_memcpy(&x, p, 8);
        quote = x ^ (ones * '"'); slash = x ^ (ones * 0x5c);
        return (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((x - ones * 0x20) & ~x) | x) & tops;
    }
    static inline unsigned fq_first(uint64_t stops) { return (unsigned)__builtin_ctzll(stops) >> 3; }
    #else
    static inline int fq_stops(const char *p) { return fq_is_stop((unsigned char)*p); }
    static inline unsigned fq_first(int stops) { return 0; }
    #endif

    static inline const char *fq_find_stop(const char *p, const char *end) {
        while (end - p >= FQ_STRIDE) {
            __typeof__(fq_stops(p)) stops = fq_stops(p);
            if (stops) return p + fq_first(stops);
            p += FQ_STRIDE;
        }
        while (p < end && !fq_is_stop((unsigned char)*p)) p++;
        return p;
    }
    """
    const char* fq_find_stop(const char*, const char*) noexcept nogil

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


cdef inline bint is_space(char c) noexcept nogil:
    # Nearly always the first comparison says no.
    return c <= 32 and (c == 32 or c == 10 or c == 13 or c == 9)


cdef inline void skip_space(Scan* s) noexcept nogil:
    while s.p < s.end and is_space(s.p[0]):
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
        s.p = fq_find_stop(s.p, s.end)
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
