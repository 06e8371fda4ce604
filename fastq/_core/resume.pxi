# Messages whose time has come, from the broker's reply into the line. Python has read them when they were parked; here
# only what may have changed since is looked at: the tasks, and what has been revoked.

cdef bint find_id(const char* data, size_t size, Span* id) noexcept nogil:
    # The id in the headers of protocol 2's JSON. False: not there once, as plain text.
    cdef Scan s
    cdef bint more = True
    cdef int found = 0
    cdef Span key
    s.p, s.end, s.escaped, s.declined = data, data + size, False, False
    skip_space(&s)
    if size > 0x7fffffff or s.p >= s.end or s.p[0] != 123 or open_empty(&s, 125):
        return False
    while more:
        if not scan_key(&s, &key):
            return False
        if span_is(&key, b"headers", 7):
            found += 1
            if not id_in_headers(&s, id):
                return False
        elif not scan_value(&s, 1):
            return False
        if not next_item(&s, 125, &more):
            return False
    return found == 1


cdef bint id_in_headers(Scan* s, Span* id) noexcept nogil:
    cdef bint more = True
    cdef int found = 0
    cdef Span key
    if s.p >= s.end or s.p[0] != 123 or open_empty(s, 125):
        return False
    while more:
        if not scan_key(s, &key):
            return False
        if span_is(&key, b"id", 2):
            found += 1
            if not scan_string(s, id) or s.escaped:
                return False
        elif not scan_value(s, 2):
            return False
        if not next_item(s, 125, &more):
            return False
    return found == 1


cdef class _Resuming(_Intake):
    """What comes back from waiting."""

    def resume(self, uint32_t index, bytes message not None):
        """Queue a held entry that has waited, if still nothing else is special about its message. False: it was parked
        without a task, the task is gone or limited now, or something may have been revoked; look at it again."""
        cdef Entry* entry = self.held_entry(index)
        cdef uint32_t n = <uint32_t>len(message)
        cdef uint32_t task
        cdef Plain plain
        cdef fq_frame* frame
        if entry.number >= <uint64_t>len(self.late) or n > self.largest or self.may_be_revoked(message):
            return False
        task = <uint32_t>entry.number
        if not len(<bytes>self.names.names[task]):
            return False
        frame = self.new_frame(index, <char*>message, n)
        frame.kind, frame.task, frame.flags = FQ_TASK, task, FQ_LATE if self.late[task] else 0
        if FAST and scan_envelope(<char*>message, n, &plain, True):
            frame.id_at, frame.id_len = <uint32_t>(plain.id.at - <char*>message), plain.id.size
            frame.body_at, frame.body_len = <uint32_t>(plain.body.at - <char*>message), plain.body.size
        else:
            frame.flags |= FQ_ODD
        if self.limited:
            frame.soft_s, frame.hard_s = self.limits[task]
        entry.frame, entry.late = <char*>frame, self.late[task]
        self.count_admitted(frame, 1)
        self.queue_last(index)
        return True

    cdef int may_be_revoked(self, bytes message) except -1:
        cdef Span id
        if self.stamps_revoked:
            return True
        if self.revoked is None or not len(self.revoked):
            return False
        return not find_id(<char*>message, len(message), &id) or id.at[: id.size] in self.revoked
