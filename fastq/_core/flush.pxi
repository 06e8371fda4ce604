# What is settled, told to the broker: one transaction at a time.

# Results in one transaction: no more are added to so many. One result has three times 128 MiB at most: itself, what
# announces it, and a part of a chord.
cdef enum:
    TRANSACTION_BYTES = 64 << 20

cdef class _Flushing(_Settling):
    """Flushes, and what their confirmation sets free."""
    cdef Buffer results, out
    cdef uint32_t result_commands
    cdef list cuts                             # (bytes, commands) of results before which a transaction ends
    cdef size_t cut_at                         # the last of those bytes
    cdef uint64_t results_sent, results_confirmed      # flushes of results
    cdef list deferred, sent_deferred          # entries whose end waits for such a flush: the next, one on its way
    cdef public bint separate_results          # results go to another server than the acknowledgements

    def __cinit__(self, *_rest):
        self.deferred, self.sent_deferred, self.cuts = [], [], []

    def __dealloc__(self):
        free(self.results.data)
        free(self.out.data)

    cdef int add_results(self, Hand* hand, uint64_t number, uint32_t commands, const char* data, size_t n) except -1:
        # What a frame has for the result store. Its acknowledgement has to wait if the store is another server.
        if self.separate_results and self.results.size - self.cut_at >= TRANSACTION_BYTES:
            self.cuts.append((self.results.size, self.result_commands))
            self.cut_at = self.results.size
        put(&self.results, data, n)
        self.result_commands += commands
        hand.stored, hand.stored_in = number + 1, self.results_sent + 1
        return 0

    cdef int settle_late(self, Hand* hand, uint64_t number, uint32_t index) except -1:
        # A child has reported the end of a frame: settled when everything the frame has stored is really stored.
        # Of tasks in flight beside each other it is not known which has stored what: all wait for all.
        if (not self.separate_results or hand.stored_in <= self.results_confirmed
                or (hand.stored != number + 1 and not hand.berths)):
            self.settle_entry(index)
        elif hand.stored_in > self.results_sent:
            self.deferred.append(index)
        else:
            self.sent_deferred.append(index)
        return 0

    cdef int tell_entry(self, Batch* batch, uint32_t position) except -1:
        cdef uint32_t index = batch.entries[position]
        batch.states[position] = TOLD
        if index == NONE:
            return 0
        batch.entries[position] = NONE
        self.entries[index].told = True
        self.entries[index].batch = NONE
        if self.entries[index].finished:
            self.part(index)
        else:
            self.forget_place(index)
        return 0

    cdef int tell_complete(self) except -1:
        cdef uint32_t index, position
        cdef Batch* batch
        while self.complete != NONE:
            index = self.complete
            batch = &self.batches[index]
            self.complete = batch.next
            put(&self.acks, b"*2\r\n$6\r\nUNLINK\r\n", 16)
            self.put_claim(batch)
            self.tell_index(batch)
            for position in range(batch.size):
                if batch.states[position] != TOLD:
                    self.tell_entry(batch, position)
            self.drop_batch(index)
        return 0

    cdef int tell_index(self, Batch* batch) except -1:
        cdef bytes key = self.indexes[batch.key]
        put(&self.acks, b"*3\r\n$4\r\nSREM\r\n", 14)
        put_bulk(&self.acks, <char*>key, len(key))
        put_number(&self.acks, batch.n)
        self.ack_commands += 2
        return 0

    cdef int tell_partial(self, uint64_t before) except -1:
        # Dirty positions of batches that have been partly settled for too long get tombstones.
        cdef list kept = []
        cdef uint32_t index, position
        cdef uint64_t n
        cdef Batch* batch
        for item in self.partial:
            index, n = item
            batch = &self.batches[index]
            if not batch.used or batch.n != n or batch.dirty == 0:
                continue        # it has been told whole; the index may belong to another claim by now
            if batch.dirty_since > before:
                kept.append(item)
                continue
            for position in range(batch.size):
                if batch.states[position] == DIRTY:
                    self.bury_position(batch, position)
                    self.tell_entry(batch, position)
            batch.dirty = 0
        self.partial = kept
        return 0

    def flush(self, bytes stamp not None, uint64_t linger_ns=0):
        """One transaction that tells the broker everything settled: results first, then acknowledgements, then `stamp`
        (a ready RESP command, by which its application can be recognised). Returns (bytes, replies to expect before
        EXEC's), or None if there is nothing to tell.

        Positions of partly settled batches are told after `linger_ns`. `confirm` must be called when it has been
        applied; one flush at a time.
        """
        cdef uint32_t commands
        cdef uint64_t now = monotonic_ns()
        self.tell_complete()
        self.tell_partial(now - linger_ns if now > linger_ns else 0)
        self.mark_told()
        if self.acks.size == 0 and (self.separate_results or self.results.size == 0):
            self.confirm()
            return None
        self.out.size = 0
        commands = self.ack_commands + 1
        if not self.separate_results:
            put(&self.out, self.results.data, self.results.size)
            commands += self.result_commands
            self.results.size = self.result_commands = 0
        put(&self.out, b"*1\r\n$5\r\nMULTI\r\n", 15)
        put(&self.out, self.acks.data, self.acks.size)
        put(&self.out, <char*>stamp, len(stamp))
        put(&self.out, b"*1\r\n$4\r\nEXEC\r\n", 14)
        self.acks.size = self.ack_commands = 0
        shrink(&self.results)
        return self.out.data[: self.out.size], commands + 1

    def flush_results(self):
        """As `flush`, for results that go to another server: (bytes, commands) of one transaction or of several, for a
        server counts what a transaction holds, and drops who sends it 1 GB. `confirm_results` follows."""
        cdef size_t begin = 0, end
        cdef uint32_t before = 0, commands
        cdef list parts = []
        if self.results.size == 0:
            return None
        self.results_sent += 1
        for end, commands in [*self.cuts, (self.results.size, self.result_commands)]:
            parts.append((self.results.data[begin:end], commands - before))
            begin, before = end, commands
        self.results.size = self.result_commands = self.cut_at = 0
        self.cuts = []
        shrink(&self.results)
        self.sent_deferred, self.deferred = self.sent_deferred + self.deferred, []
        return parts

    def confirm_results(self):
        """The result store has what was flushed: late acknowledgements that waited for it may go."""
        cdef uint32_t index
        self.results_confirmed = self.results_sent
        for index in self.sent_deferred:
            self.settle_entry(index)
        self.sent_deferred = []

    cdef void mark_told(self) noexcept:
        # How far each ring has been told without a gap: when this flush is confirmed, so far it may be written again.
        cdef uint32_t i
        cdef uint64_t told
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if hand.entries == NULL:
                continue
            told = hand.told
            while told < hand.done and hand.entries[told & (IN_FLIGHT - 1)] == NONE:
                told += 1
            if told != hand.told:
                # The end of the last frame, not the beginning of the next: the child has not passed over a pad between.
                hand.told_at = hand.places[(told - 1) & (IN_FLIGHT - 1)] + self.frame_at(hand, told - 1).size
                hand.told = told
                fq_check(hand.told_at <= load64(&hand.slot.task_tail) or not hand.used, b"told before it was finished")

    def confirm(self):
        """The broker has applied the last flush: the children's rings have room again."""
        cdef uint32_t i
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if hand.entries == NULL or hand.freed == hand.told:
                continue
            hand.freed, hand.freed_at = hand.told, hand.told_at
            fq_step()
            hand.slot.acked_count = hand.freed
            fq_step()
            store64(&hand.slot.acked_head, hand.freed_at)
            fq_step()

    @property
    def untold(self):
        """Whether anything waits for a flush (dirty positions of partly settled batches included)."""
        return self.acks.size != 0 or self.results.size != 0 or self.complete != NONE or len(self.partial) != 0

    @property
    def urgent(self):
        """Whether anything should be flushed at once: a result, a requeue, a batch settled whole."""
        return self.acks.size != 0 or self.complete != NONE or (self.results.size != 0 and not self.separate_results)

    @property
    def result_backlog(self):
        """Bytes of results that wait for a flush."""
        return self.results.size
