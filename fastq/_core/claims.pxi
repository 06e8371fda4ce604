# The messages that this worker has claimed, and the claim lists on the broker in which they lie.

cdef class _Claims:
    """Entries and batches. The ground floor of the ledger."""
    cdef Segment segment
    cdef fq_header* header
    cdef Entry* entries
    cdef Batch* batches
    cdef uint32_t entry_room, batch_room
    cdef uint32_t free_entry, free_batch, used_entries
    cdef uint32_t complete                     # batches settled whole, to be unlinked
    cdef list partial                          # batches with dirty positions, oldest first
    cdef list keys, claims, indexes
    cdef bytearray ranks                       # by key
    cdef dict sides                            # by entry: path of the side file that holds its payload
    cdef uint64_t next_n
    cdef fq_board* board
    cdef uint64_t read_ns                      # when the claim that is being read came in
    cdef public list missing                   # side files that were gone when they were to be read

    def __cinit__(self, Segment segment not None, *_rest):
        self.segment, self.header, self.board = segment, segment.header, segment.board()
        self.keys, self.claims, self.indexes, self.partial, self.sides = [], [], [], [], {}
        self.missing, self.ranks = [], bytearray()
        self.free_entry = self.free_batch = self.complete = NONE
        self.next_n = 1

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.entry_room):
            free(self.entries[i].frame)
        for i in range(self.batch_room):
            free(self.batches[i].entries)
        free(self.entries)
        free(self.batches)

    cdef uint32_t new_entry(self, uint32_t batch, uint32_t position) except? NONE:
        cdef uint32_t index
        if self.free_entry == NONE:
            self.more_entries()
        index = self.free_entry
        self.free_entry = self.entries[index].next
        memset(&self.entries[index], 0, sizeof(Entry))
        self.entries[index].batch, self.entries[index].position = batch, position
        self.entries[index].child = NONE
        self.used_entries += 1
        return index

    cdef int more_entries(self) except -1:
        # Pointers to entries are good until here.
        cdef uint32_t index, room = self.entry_room * 2 if self.entry_room else 1024
        cdef Entry* grown = <Entry*>realloc(self.entries, room * sizeof(Entry))
        if grown == NULL:
            raise MemoryError()
        self.entries = grown
        memset(&grown[self.entry_room], 0, (room - self.entry_room) * sizeof(Entry))
        for index in range(room, self.entry_room, -1):
            grown[index - 1].state, grown[index - 1].next = UNUSED, self.free_entry
            self.free_entry = index - 1
        self.entry_room = room
        return 0

    cdef void free_entry_at(self, uint32_t index) noexcept:
        cdef Entry* entry = &self.entries[index]
        if entry.side:
            self.drop_side(index)
        free(entry.frame)
        entry.frame = NULL
        entry.state, entry.next = UNUSED, self.free_entry
        self.free_entry = index
        self.used_entries -= 1

    cdef void drop_side(self, uint32_t index) noexcept:
        self.entries[index].side = False
        remove_file(self.sides.pop(index))

    cdef bytes read_side(self, bytes path):
        # Somebody may have cleaned up where segments lie. Then what was in the file is lost; the worker is not.
        try:
            with open(_os.fsdecode(path), "rb") as file:
                return file.read()
        except OSError:
            self.missing.append(path)
            return b""

    cdef Entry* entry(self, uint32_t index) except NULL:
        if index >= self.entry_room or self.entries[index].state == UNUSED:
            raise IndexError(f"the ledger holds no entry {index}")
        return &self.entries[index]

    cdef Entry* held_entry(self, uint32_t index) except NULL:
        cdef Entry* entry = self.entry(index)
        if entry.state != HELD:
            raise ValueError(f"entry {index} is not in the caller's hands")
        return entry

    cdef Batch* batch(self, uint32_t index) except NULL:
        if index >= self.batch_room or not self.batches[index].used:
            raise IndexError(f"the ledger has no batch {index}")
        return &self.batches[index]

    def add_key(self, bytes queue_key not None, bytes claim_prefix not None, bytes index_key not None,
                bytes queue not None=b"", uint32_t rank=0):
        """Make a queue's list known: its key, the claim lists' common prefix, their index, and the name of the queue
        that it is counted with. What lies in a list of lower `rank` goes first. Returns its number."""
        if <uint32_t>len(self.keys) < FQ_KEY_ROWS:
            self.board.key_rows[len(self.keys)] = name_queue(self.board, queue)
        self.keys.append(queue_key)
        self.claims.append(claim_prefix)
        self.indexes.append(index_key)
        self.ranks.append(min(rank, RANKS - 1))
        return len(self.keys) - 1

    cdef inline fq_queue_row* queue_row(self, uint32_t key) noexcept nogil:
        return &self.board.queues[self.board.key_rows[key] if key < FQ_KEY_ROWS else 0]

    def open_batch(self, uint32_t key, uint32_t room):
        """Expect a claim of up to `room` messages. Returns (batch, the claim list's number)."""
        cdef uint32_t index
        cdef Batch* batch
        if key >= <uint32_t>len(self.keys):
            raise IndexError(f"no queue key {key}")
        if self.free_batch == NONE:
            self.more_batches()
        index = self.free_batch
        batch = &self.batches[index]
        # The positions' entries, and behind them their states: one block, freed with the batch.
        batch.entries = <uint32_t*>malloc(<size_t>room * (sizeof(uint32_t) + sizeof(uint8_t)) + 1)
        if batch.entries == NULL:
            raise MemoryError()
        batch.states = <uint8_t*>&batch.entries[room]
        self.free_batch = batch.next
        batch.n, batch.key, batch.room, batch.used = self.next_n, key, room, True
        self.next_n += 1
        return index, batch.n

    cdef int more_batches(self) except -1:
        cdef uint32_t index, room = self.batch_room * 2 if self.batch_room else 64
        cdef Batch* grown = <Batch*>realloc(self.batches, room * sizeof(Batch))
        if grown == NULL:
            raise MemoryError()
        self.batches = grown
        memset(&grown[self.batch_room], 0, (room - self.batch_room) * sizeof(Batch))
        for index in range(room, self.batch_room, -1):
            grown[index - 1].next = self.free_batch
            self.free_batch = index - 1
        self.batch_room = room
        return 0

    def close_batch(self, uint32_t index):
        """The claim's replies are complete. Returns how many messages they brought; an empty batch is dropped."""
        cdef Batch* batch = self.batch(index)
        cdef uint32_t size = batch.size
        batch.closed, batch.room = True, size
        if size == 0:
            self.drop_batch(index)
        elif batch.remaining == 0 and not batch.listed:
            self.list_complete(index)
        return size

    cdef void drop_batch(self, uint32_t index) noexcept:
        cdef Batch* batch = &self.batches[index]
        free(batch.entries)
        memset(batch, 0, sizeof(Batch))
        batch.next = self.free_batch
        self.free_batch = index

    cdef void list_complete(self, uint32_t index) noexcept:
        self.batches[index].listed = True
        self.batches[index].next = self.complete
        self.complete = index

    def batch_size(self, uint32_t batch):
        """Messages of a batch that have been taken so far."""
        return self.batch(batch).size

    def batch_numbers(self):
        """(key number, claim list number) of every batch that is open or held."""
        cdef uint32_t i
        return [(self.batches[i].key, self.batches[i].n) for i in range(self.batch_room) if self.batches[i].used]

    def where(self, uint32_t index):
        """(key number, claim list number, position) of an entry, or None if it has nothing to acknowledge."""
        cdef Entry* entry = self.entry(index)
        if entry.batch == NONE:
            return None
        return self.batches[entry.batch].key, self.batches[entry.batch].n, entry.position

    @property
    def size(self):
        """Entries in use."""
        return self.used_entries


cdef void remove_file(bytes path) noexcept:
    try:
        _os.unlink(path)
    except OSError:
        pass        # somebody else did
