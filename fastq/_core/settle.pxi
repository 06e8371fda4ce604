# How an entry comes to its end: settled once, told once, finished, and then forgotten.

cdef class _Settling(_Hands):
    """Ends of entries, and the Redis commands that tell of them."""
    cdef Buffer acks
    cdef uint32_t ack_commands
    cdef readonly uint64_t finished, settled

    def __dealloc__(self):
        free(self.acks.data)

    cdef int settle_entry(self, uint32_t index) except -1:
        # Once for each entry, however often it is called. A batch that is not closed may still grow: whatever has
        # arrived of it is told position by position.
        cdef Entry* entry = &self.entries[index]
        cdef Batch* batch
        if entry.settled:
            return 0
        entry.settled = True
        self.settled += 1
        if entry.batch == NONE:
            entry.told = True
            if entry.finished:
                self.part(index)
            else:
                self.forget_place(index)
            return 0
        batch = &self.batches[entry.batch]
        self.queue_row(batch.key).settled += 1
        batch.states[entry.position] = DIRTY
        batch.remaining -= 1
        batch.dirty += 1
        if batch.remaining == 0 and batch.closed:
            if not batch.listed:
                self.list_complete(entry.batch)
        elif batch.dirty == 1:
            batch.dirty_since = monotonic_ns()
            self.partial.append((entry.batch, batch.n))
        return 0

    def settle(self, uint32_t index):
        """A held entry has come to its end without a child: acknowledge it."""
        cdef Entry* entry = self.held_entry(index)
        entry.finished, entry.state = True, OVER
        self.settle_entry(index)

    def requeue(self, uint32_t index, bytes message not None, bytes key=None):
        """Push a message behind its queue again, or behind another list, and give up its claim, in one step of the next
        flush. For held entries, and for what `collect` has returned."""
        cdef Entry* entry = self.entry(index)
        if entry.batch == NONE or entry.settled or (entry.state != HELD and entry.state != DEALT):
            raise ValueError(f"entry {index} has nothing to give back")
        if key is None:
            key = self.keys[self.batches[entry.batch].key]
        if entry.state == HELD:
            entry.finished = True
        self.put_away(index, b"*3\r\n$5\r\nLPUSH\r\n", message, key)

    cdef int put_away(self, uint32_t index, const char* push, bytes message, bytes key) except -1:
        # `push`: the beginning of a command of 15 bytes.
        cdef Entry* entry = &self.entries[index]
        put(&self.acks, push, 15)
        put_bulk(&self.acks, <char*>key, len(key))
        put_bulk(&self.acks, <char*>message, len(message))
        self.ack_commands += 1
        self.bury_position(&self.batches[entry.batch], entry.position)
        return self.quit_entry(index)

    def push(self, bytes message not None, bytes key not None):
        """Push something behind a list with the next flush; it acknowledges nothing."""
        put(&self.acks, b"*3\r\n$5\r\nLPUSH\r\n", 15)
        put_bulk(&self.acks, <char*>key, len(key))
        put_bulk(&self.acks, <char*>message, len(message))
        self.ack_commands += 1

    def quit(self, uint32_t index):
        """A held entry whose position on the broker has been dealt with elsewhere (given back to its queue)."""
        self.held_entry(index).finished = True
        self.quit_entry(index)

    cdef int quit_entry(self, uint32_t index) except -1:
        # Settled and told at once: its tombstone is on its way, or has been set by somebody else.
        cdef Entry* entry = &self.entries[index]
        cdef uint32_t b = entry.batch
        cdef Batch* batch
        entry.settled = entry.told = True
        self.settled += 1
        if b != NONE:
            batch = &self.batches[b]
            self.queue_row(batch.key).settled += 1
            batch.states[entry.position] = TOLD
            batch.entries[entry.position] = NONE
            batch.remaining -= 1
            if batch.remaining == 0 and batch.closed and not batch.listed:
                self.list_complete(b)
        if entry.finished:
            self.part(index)
        return 0

    cdef int bury_position(self, Batch* batch, uint32_t position) except -1:
        # A tombstone over one position of a claim list.
        put(&self.acks, b"*4\r\n$4\r\nLSET\r\n", 14)
        self.put_claim(batch)
        put_number(&self.acks, -<int64_t>position - 1)
        put(&self.acks, b"$0\r\n\r\n", 6)
        self.ack_commands += 1
        return 0

    cdef int put_claim(self, Batch* batch) except -1:
        cdef bytes prefix = self.claims[batch.key]
        cdef char text[20]
        cdef size_t n = digits(text, batch.n)
        put_count(&self.acks, 36, len(prefix) + n)
        put(&self.acks, <char*>prefix, len(prefix))
        put(&self.acks, text, n)
        return put(&self.acks, b"\r\n", 2)

    cdef int finish(self, Hand* hand, uint64_t number) except -1:
        # A child is through with a frame.
        cdef uint32_t index = hand.entries[number & (IN_FLIGHT - 1)]
        if index == NONE:
            return 0
        self.finished += 1
        self.entries[index].finished = True
        if self.entries[index].told:
            self.part(index)
        return 0

    cdef int land(self, Hand* hand, uint32_t index) except -1:
        # A child is through with a task that it had in flight.
        self.put_down(hand, index)
        self.finished += 1
        self.entries[index].finished = True
        if self.entries[index].told:
            self.part(index)
        return 0

    cdef void put_down(self, Hand* hand, uint32_t index) noexcept:
        cdef Entry* entry = &self.entries[index]
        hand.flying -= 1
        hand.late -= entry.late
        entry.flying = False
        free(entry.frame)
        entry.frame = NULL

    cdef inline void forget_place(self, uint32_t index) noexcept:
        # What flies needs no room in its ring once its start cannot be read there by a restorer any more, or need not.
        cdef Entry* entry = &self.entries[index]
        if entry.flying and not entry.gone:
            entry.gone = True
            self.hands[entry.child].entries[entry.number & (IN_FLIGHT - 1)] = NONE

    cdef void part(self, uint32_t index) noexcept:
        # Finished and told: nobody needs the entry any more, nor its place in the ring.
        cdef Entry* entry = &self.entries[index]
        cdef Hand* hand
        if entry.child != NONE and not entry.gone:
            hand = &self.hands[entry.child]
            hand.entries[entry.number & (IN_FLIGHT - 1)] = NONE
        self.free_entry_at(index)
