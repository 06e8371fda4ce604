# From a claim's reply straight into a ring; or into the line; or, if it is unusual, into Python's hands.

cdef class _Intake(_Telling):
    """What comes in."""
    cdef Names names
    cdef bytearray late
    cdef list limits, odd
    cdef public list log_received              # (task, id) of plain messages, if not None
    cdef public bint holding                   # the worker is stopping: what is claimed is not dealt any more
    cdef public set revoked                    # ids (bytes) whose messages are not plain
    cdef public bint stamps_revoked            # stamped messages are not plain either
    cdef readonly uint64_t taken
    cdef readonly bint limited                 # some tasks have time limits
    cdef readonly double shortest_limit        # the shortest of them, seconds

    def __cinit__(self, Segment _segment, list tasks not None, list late not None, list limits not None):
        self.late, self.odd = bytearray(), []
        self.know(tasks, late, limits)

    def know(self, list tasks not None, list late not None, list limits not None):
        """The program's tasks from now on, as for a new ledger. Those that were known keep their numbers."""
        if len(tasks) < len(self.late):
            raise ValueError(f"{len(tasks)} tasks, after {len(self.late)}: numbers are in use")
        self.more_tasks(<uint32_t>len(tasks))
        self.names, self.late, self.limits = Names(tasks), bytearray(late), limits
        for soft, hard in limits:
            self.note_limit(soft)
            self.note_limit(hard)

    cdef void note_limit(self, double limit_s) noexcept:
        if limit_s > 0 and (not self.limited or limit_s < self.shortest_limit):
            self.limited, self.shortest_limit = True, limit_s

    cdef int take(self, uint32_t index, const char* data, size_t n) except -1:
        # A claimed message, in claim order. Plain ones go straight into a ring if there is room.
        cdef Batch* batch = self.batch(index)
        cdef uint32_t entry, task
        cdef Plain plain
        if batch.size >= batch.room:
            raise ValueError("a claim brought more than was asked for, or after its end")
        entry = self.new_entry(index, batch.size)
        self.entries[entry].rank = self.ranks[batch.key]
        batch.entries[batch.size], batch.states[batch.size] = entry, KEPT
        batch.size += 1
        batch.remaining += 1
        self.taken += 1
        self.queue_row(batch.key).claimed += 1
        if FAST and n < self.header.task_bytes // 4 and scan_message(data, n, &plain):
            task = self.names.find(plain.task.at, plain.task.size)
            if task != NONE and not self.is_revoked(&plain) and self.may_tell(&plain, task):
                self.admit_plain(entry, task, &plain, data, <uint32_t>n)
                return 0
        self.entries[entry].state = HELD
        self.odd.append((entry, data[:n]))
        return 0

    cdef inline bint may_tell(self, Plain* plain, uint32_t task):
        return not plain.packed or self.tell_packed is not None or not self.tells(task)

    cdef inline int is_revoked(self, Plain* plain) except -1:
        # Perhaps: Python looks at it.
        if plain.stamped and self.stamps_revoked:
            return True
        return self.revoked is not None and len(self.revoked) and id_bytes(plain) in self.revoked

    def adopt(self):
        """A new entry in the caller's hands that has no place on the broker: there is nothing to acknowledge."""
        cdef uint32_t index = self.new_entry(NONE, 0)
        self.entries[index].state = HELD
        return index

    cdef int admit_plain(self, uint32_t index, uint32_t task, Plain* plain, const char* data, uint32_t n) except -1:
        cdef fq_frame frame
        cdef Entry* entry = &self.entries[index]
        cdef Batch* batch = &self.batches[entry.batch]
        cdef char* kept
        memset(&frame, 0, sizeof(frame))
        frame.size, frame.kind = _align8(sizeof(fq_frame) + n), FQ_TASK
        frame.flags = (FQ_LATE if self.late[task] else 0) | (FQ_PACKED if plain.packed else 0)
        frame.entry, frame.task, frame.payload_len = index, task, n
        frame.claim_key, frame.claim_n, frame.claim_pos = batch.key, batch.n, entry.position
        frame.since_ns = self.read_ns
        frame.id_at, frame.id_len = <uint32_t>(plain.id.at - data), plain.id.size
        frame.body_at, frame.body_len = <uint32_t>(plain.body.at - data), plain.body.size
        if self.limited:
            frame.soft_s, frame.hard_s = self.limits[task]
        entry.late = self.late[task]
        self.admitted[task] += 1
        if self.log_received is not None:
            self.log_received.append((self.names.names[task], id_bytes(plain)))
        if self.tells(task):
            self.add_received(plain, data, n)       # before a child can tell that it has started
        if (self.first == NONE and entry.rank >= self.lowest_dealt and not self.holding
                and self.deal_one(index, &frame, data)):
            return 0
        kept = <char*>malloc(frame.size)
        if kept == NULL:
            raise MemoryError()
        memcpy(kept, &frame, sizeof(frame))
        memcpy(kept + sizeof(frame), data, n)
        entry.frame = kept
        self.queue_last(index)
        return 0

    @property
    def largest(self):
        """Bytes of a payload that goes through the ring; a larger one goes by a side file."""
        return self.header.task_bytes // 4 - <uint32_t>sizeof(fq_frame)

    def take_odd(self):
        """(entry, message) of what was not plain since the last call; each is in the caller's hands now."""
        odd, self.odd = self.odd, []
        return odd

    def take_one(self, uint32_t batch, bytes message not None):
        """A message that came another way than a claim's reply (a reconciled claim list)."""
        self.read_ns = monotonic_ns()
        self.take(batch, <char*>message, len(message))

    def place(self, uint32_t index, bytes payload not None, *, int kind=FQ_TASK, uint32_t task=NO_TASK, int flags=0,
              double expires=0.0, double soft_s=0.0, double hard_s=0.0, bint first=False):
        """Queue a held entry for the children, as a frame with this payload. A payload over a quarter of the ring's
        size must be a side file's path (flag SIDE)."""
        cdef Entry* entry = self.held_entry(index)
        cdef size_t n = len(payload)
        cdef fq_frame* frame
        # Whatever lies in a ring of twice a frame's size, the frame fits in as soon as that is confirmed.
        if sizeof(fq_frame) + n + 8 > self.header.task_bytes // 2:
            raise ValueError(f"a payload of {n} bytes is too large for a ring of {self.header.task_bytes}")
        if kind != FQ_TASK and kind != FQ_VERDICT:
            raise ValueError(f"kind {kind} is neither TASK nor VERDICT")
        frame = self.new_frame(index, <char*>payload, <uint32_t>n)
        frame.kind, frame.flags, frame.task = kind, flags, task
        frame.expires, frame.soft_s, frame.hard_s = expires, soft_s, hard_s
        if entry.side:
            self.drop_side(index)
        if flags & FQ_SIDE:
            self.sides[index] = payload
            entry.side = True
        entry.frame, entry.late = <char*>frame, bool(flags & FQ_LATE)
        self.count_admitted(frame, 1)
        self.note_limit(soft_s)
        self.note_limit(hard_s)
        if first:
            entry.rank = 0
            self.queue_first(index)
        else:
            self.queue_last(index)

    cdef fq_frame* new_frame(self, uint32_t index, const char* payload, uint32_t n) except NULL:
        # Of a held entry, but for what it is: kind, flags, task, times.
        cdef Entry* entry = &self.entries[index]
        cdef uint32_t size = _align8(<uint32_t>sizeof(fq_frame) + n)
        cdef fq_frame* frame = <fq_frame*>malloc(size)
        if frame == NULL:
            raise MemoryError()
        memset(frame, 0, sizeof(fq_frame))
        frame.size, frame.entry, frame.payload_len, frame.since_ns = size, index, n, monotonic_ns()
        if entry.batch != NONE:
            frame.claim_key, frame.claim_n = self.batches[entry.batch].key, self.batches[entry.batch].n
            frame.claim_pos = entry.position
        memcpy(<char*>frame + sizeof(fq_frame), payload, n)
        return frame
