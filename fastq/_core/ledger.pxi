# The engine's end of everything: each delivery it holds, from claim to settlement, settled once.
#
# A *batch* is one claim list on the broker; an *entry* is one message of it. What an entry goes through:
#
#     take ----> pending ----> dealt (a frame in a child's ring) ----> started ----> finished
#       |           ^  ^                     |
#       |           |  +------ recall -------+
#       +-> held (Python looks at it) -> waiting (an ETA) -> due -> held
#
# Early acknowledged entries are settled when the child has started them, late ones by their outcome. A settled position
# is *dirty* until a flush tells the broker: a batch settled whole by one UNLINK, single positions by LSET after a while.
# An entry is free again when it is finished and told; a frame's room in the ring only when the broker has confirmed.
#
# Arrays of C structs, indices instead of objects: a message costs no Python object unless it is unusual.

from libc.stdlib cimport free, malloc, realloc

cdef enum:
    NONE = 0xFFFFFFFF
    IN_FLIGHT = 4096            # Frames a ring may hold that the broker has not confirmed; a power of two.
    HELD = 0                    # states of an entry
    PENDING = 1
    DEALT = 2
    WAITING = 3
    UNUSED = 4
    KEPT = 0                    # states of a position
    DIRTY = 1
    TOLD = 2

cdef struct Entry:
    uint32_t batch, position    # batch NONE: nothing to acknowledge (a verdict on an early acknowledged task)
    uint32_t child, next        # slot while dealt; link of the pending and of the free list
    uint64_t number             # frame number while dealt
    char* frame                 # the frame, ready to be written, while pending
    uint8_t state, late, settled, finished, told, side

cdef struct Batch:
    uint64_t n                  # the claim list's number
    uint64_t dirty_since
    uint32_t key, size, room, remaining, dirty
    uint32_t* entries           # by position
    uint8_t* states             # by position: KEPT, DIRTY, TOLD
    uint32_t next
    bint used, closed, listed

cdef struct Hand:               # what the engine knows of a child
    fq_slot* slot
    char* tasks
    char* results
    uint64_t head, count        # as written to the slot
    uint64_t started, done      # as seen last
    uint64_t told_at, told      # ring position and frames whose settlement has been sent
    uint64_t freed_at, freed    # ... and confirmed
    uint64_t answered           # 1 + number of the last frame with an outcome
    uint32_t* entries           # by frame number, NONE: told or taken back
    uint64_t* places            # by frame number: position in the ring
    uint32_t depth              # frames it may hold unstarted; 0: one, and only while it is idle
    bint used, wake

cdef struct Buffer:
    char* data
    size_t size, room

cdef struct Due:
    double at
    uint32_t entry


cdef int grow(Buffer* b, size_t more) except -1:
    cdef size_t room
    cdef char* data
    if b.size + more > b.room:
        room = max(b.room * 2, b.size + more, 65536)
        data = <char*>realloc(b.data, room)
        if data == NULL:
            raise MemoryError()
        b.data, b.room = data, room
    return 0


cdef inline int put(Buffer* b, const char* data, size_t n) except -1:
    grow(b, n)
    memcpy(b.data + b.size, data, n)
    b.size += n
    return 0


cdef inline size_t digits(char* out, int64_t value) noexcept nogil:
    # Decimal text; returns its length. `out` has room for 20.
    cdef char back[20]
    cdef size_t n = 0, i
    cdef uint64_t rest = <uint64_t>(-value if value < 0 else value)
    while rest or n == 0:
        back[n] = 48 + rest % 10
        rest //= 10
        n += 1
    i = 0
    if value < 0:
        out[0] = 45
        i = 1
    while n:
        n -= 1
        out[i] = back[n]
        i += 1
    return i


cdef inline int put_count(Buffer* b, char kind, int64_t value) except -1:
    cdef char text[24]
    cdef size_t n = digits(text + 1, value)
    text[0], text[n + 1], text[n + 2] = kind, 13, 10
    return put(b, text, n + 3)


cdef inline int put_bulk(Buffer* b, const char* data, size_t n) except -1:
    put_count(b, 36, n)
    put(b, data, n)
    return put(b, b"\r\n", 2)


cdef inline int put_number(Buffer* b, int64_t value) except -1:
    cdef char text[20]
    return put_bulk(b, text, digits(text, value))


cdef class Names:
    """Task names to their index in the program's table, looked up by bytes without making an object."""
    cdef list names
    cdef uint32_t* table
    cdef uint32_t mask, last

    def __cinit__(self, list names):
        cdef uint32_t size = 16, i, at
        cdef bytes name
        self.names, self.last = names, NONE
        while size < 2 * len(names):
            size *= 2
        self.mask = size - 1
        self.table = <uint32_t*>malloc(size * sizeof(uint32_t))
        if self.table == NULL:
            raise MemoryError()
        memset(self.table, 0xFF, size * sizeof(uint32_t))
        for i, name in enumerate(names):
            at = hash_bytes(<char*>name, len(name)) & self.mask
            while self.table[at] != NONE:
                at = (at + 1) & self.mask
            self.table[at] = i

    def __dealloc__(self):
        free(self.table)

    cdef inline bint is_at(self, uint32_t index, const char* name, uint32_t size):
        cdef bytes there = <bytes>self.names[index]
        return <uint32_t>len(there) == size and memcmp(<char*>there, name, size) == 0

    cdef uint32_t find(self, const char* name, uint32_t size):
        cdef uint32_t at
        if self.last != NONE and self.is_at(self.last, name, size):
            return self.last
        at = hash_bytes(name, size) & self.mask
        while self.table[at] != NONE:
            if self.is_at(self.table[at], name, size):
                self.last = self.table[at]
                return self.last
            at = (at + 1) & self.mask
        return NONE


cdef inline uint32_t hash_bytes(const char* data, uint32_t size) noexcept nogil:
    # FNV-1a: short keys, no adversary (the names are the application's own).
    cdef uint32_t h = 2166136261u, i
    for i in range(size):
        h = (h ^ <uint8_t>data[i]) * 16777619u
    return h


cdef class Ledger:
    """Every delivery that this worker holds, and the engine's end of the rings. One thread.

    `tasks` are the names that the program knows, as bytes; `late` says of each whether it is acknowledged late;
    `limits` gives each its (soft, hard) time limits in seconds, 0 for none.
    """
    cdef Segment segment
    cdef fq_header* header
    cdef Entry* entries
    cdef Batch* batches
    cdef Hand* hands
    cdef Due* heap
    cdef uint32_t entry_room, batch_room, heap_room, heap_size, slots
    cdef uint32_t top                          # slots that have ever been used
    cdef uint32_t free_entry, free_batch, used_entries
    cdef uint32_t first, last                  # pending, in order
    cdef uint32_t complete                     # batches settled whole, to be unlinked
    cdef list partial                          # batches with dirty positions, oldest first
    cdef Buffer results, acks, out
    cdef uint32_t result_commands, ack_commands
    cdef Names names
    cdef bytearray late
    cdef dict sides                            # by entry: path of the side file that holds its payload
    cdef list limits, keys, claims, indexes, odd, deferred, sent_deferred
    cdef uint64_t next_n
    cdef public bint separate_results          # results go to another server than the acknowledgements
    cdef public bint holding                   # the worker is stopping: what is claimed is not dealt any more
    cdef public list log_received              # (task, id) of plain messages, if not None
    cdef readonly uint32_t pending, waiting
    cdef readonly uint64_t taken, started, finished, settled, recalled
    cdef readonly bint limited                 # some tasks have time limits
    cdef readonly double shortest_limit        # the shortest of them, seconds

    def __cinit__(self, Segment segment, list tasks, list late, list limits):
        self.segment, self.header, self.slots = segment, segment.header, segment.header.slots
        self.names, self.late, self.limits = Names(tasks), bytearray(late), limits
        self.keys, self.claims, self.indexes, self.odd, self.partial = [], [], [], [], []
        self.deferred, self.sent_deferred, self.sides = [], [], {}
        self.free_entry = self.free_batch = self.first = self.last = self.complete = NONE
        self.next_n = 1
        self.shortest_limit = 0.0
        for soft, hard in limits:
            self.note_limit(soft)
            self.note_limit(hard)
        self.hands = <Hand*>malloc(self.slots * sizeof(Hand))
        if self.hands == NULL:
            raise MemoryError()
        memset(self.hands, 0, self.slots * sizeof(Hand))

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.entry_room):
            free(self.entries[i].frame)
        for i in range(self.batch_room):
            free(self.batches[i].entries)
            free(self.batches[i].states)
        if self.hands != NULL:
            for i in range(self.slots):
                free(self.hands[i].entries)
                free(self.hands[i].places)
        free(self.hands)
        free(self.entries)
        free(self.batches)
        free(self.heap)
        free(self.results.data)
        free(self.acks.data)
        free(self.out.data)

    # --- tables ---------------------------------------------------------------------------------------------------

    cdef uint32_t new_entry(self, uint32_t batch, uint32_t position) except? NONE:
        cdef uint32_t index, room
        cdef Entry* grown
        if self.free_entry == NONE:
            room = self.entry_room * 2 if self.entry_room else 1024
            grown = <Entry*>realloc(self.entries, room * sizeof(Entry))
            if grown == NULL:
                raise MemoryError()
            self.entries = grown
            memset(&grown[self.entry_room], 0, (room - self.entry_room) * sizeof(Entry))
            for index in range(room, self.entry_room, -1):
                grown[index - 1].state, grown[index - 1].next = UNUSED, self.free_entry
                self.free_entry = index - 1
            self.entry_room = room
        index = self.free_entry
        self.free_entry = self.entries[index].next
        memset(&self.entries[index], 0, sizeof(Entry))
        self.entries[index].batch, self.entries[index].position = batch, position
        self.entries[index].child = NONE
        self.used_entries += 1
        return index

    cdef void free_entry_at(self, uint32_t index) noexcept:
        cdef Entry* entry = &self.entries[index]
        if entry.side:
            self.drop_side(index)
        free(entry.frame)
        entry.frame = NULL
        entry.state, entry.next = UNUSED, self.free_entry
        self.free_entry = index
        self.used_entries -= 1

    cdef void note_limit(self, double limit_s) noexcept:
        if limit_s > 0 and (not self.limited or limit_s < self.shortest_limit):
            self.limited, self.shortest_limit = True, limit_s

    cdef void drop_side(self, uint32_t index) noexcept:
        self.entries[index].side = False
        path = self.sides.pop(index, None)
        try:
            _os.unlink(path)
        except OSError:
            pass        # somebody cleans /dev/shm; there is nothing to do about it

    cdef Entry* entry(self, uint32_t index) except NULL:
        if index >= self.entry_room or self.entries[index].state == UNUSED:
            raise IndexError(f"the ledger holds no entry {index}")
        return &self.entries[index]

    def add_key(self, bytes queue_key not None, bytes claim_prefix not None, bytes index_key not None):
        """Make a queue's list known: its key, the claim lists' common prefix, their index. Returns its number."""
        self.keys.append(queue_key)
        self.claims.append(claim_prefix)
        self.indexes.append(index_key)
        return len(self.keys) - 1

    def open_batch(self, uint32_t key, uint32_t room):
        """Expect a claim of up to `room` messages. Returns (batch, the claim list's number)."""
        cdef uint32_t index, more
        cdef Batch* batch
        cdef Batch* grown
        if key >= <uint32_t>len(self.keys):
            raise IndexError(f"no queue key {key}")
        if self.free_batch == NONE:
            more = self.batch_room * 2 if self.batch_room else 64
            grown = <Batch*>realloc(self.batches, more * sizeof(Batch))
            if grown == NULL:
                raise MemoryError()
            self.batches = grown
            memset(&grown[self.batch_room], 0, (more - self.batch_room) * sizeof(Batch))
            for index in range(more, self.batch_room, -1):
                grown[index - 1].next = self.free_batch
                self.free_batch = index - 1
            self.batch_room = more
        index = self.free_batch
        batch = &self.batches[index]
        self.free_batch = batch.next
        memset(batch, 0, sizeof(Batch))
        batch.entries = <uint32_t*>malloc(room * sizeof(uint32_t))
        batch.states = <uint8_t*>malloc(room)
        if batch.entries == NULL or batch.states == NULL:
            raise MemoryError()
        batch.n, batch.key, batch.room, batch.used = self.next_n, key, room, True
        self.next_n += 1
        return index, batch.n

    def close_batch(self, uint32_t index):
        """The claim's reply is complete. Returns how many messages it brought; an empty batch is dropped."""
        cdef Batch* batch = &self.batches[index]
        cdef uint32_t size = batch.size
        batch.closed = True
        if size == 0:
            self.drop_batch(index)
        elif batch.remaining == 0 and not batch.listed:
            self.list_complete(index)
        return size

    cdef void drop_batch(self, uint32_t index) noexcept:
        cdef Batch* batch = &self.batches[index]
        free(batch.entries)
        free(batch.states)
        memset(batch, 0, sizeof(Batch))
        batch.next = self.free_batch
        self.free_batch = index

    cdef void list_complete(self, uint32_t index) noexcept:
        self.batches[index].listed = True
        self.batches[index].next = self.complete
        self.complete = index

    def where(self, uint32_t index):
        """(key number, claim list number, position) of an entry, or None if it has nothing to acknowledge."""
        cdef Entry* entry = self.entry(index)
        if entry.batch == NONE:
            return None
        return self.batches[entry.batch].key, self.batches[entry.batch].n, entry.position

    def batch_numbers(self):
        """(key number, claim list number) of every batch that is open or held."""
        cdef uint32_t i
        return [(self.batches[i].key, self.batches[i].n) for i in range(self.batch_room) if self.batches[i].used]

    # --- intake ---------------------------------------------------------------------------------------------------

    cdef int take(self, uint32_t index, const char* data, size_t n) except -1:
        # A claimed message, in claim order. Plain ones go straight into a ring if there is room.
        cdef Batch* batch = &self.batches[index]
        cdef uint32_t entry, task
        cdef Plain plain
        if batch.size >= batch.room:
            raise ValueError("a claim brought more than was asked for")
        entry = self.new_entry(index, batch.size)
        batch.entries[batch.size], batch.states[batch.size] = entry, KEPT
        batch.size += 1
        batch.remaining += 1
        self.taken += 1
        if FAST and n < self.header.task_bytes // 4 and scan_envelope(data, n, &plain):
            task = self.names.find(plain.task.at, plain.task.size)
            if task != NONE:
                self.admit_plain(entry, task, &plain, data, <uint32_t>n)
                return 0
        self.entries[entry].state = HELD
        self.odd.append((entry, data[:n]))
        return 0

    cdef int admit_plain(self, uint32_t index, uint32_t task, Plain* plain, const char* data, uint32_t n) except -1:
        cdef fq_frame frame
        cdef Entry* entry = &self.entries[index]
        cdef Batch* batch = &self.batches[entry.batch]
        cdef char* kept
        memset(&frame, 0, sizeof(frame))
        frame.size, frame.kind = _align8(sizeof(fq_frame) + n), FQ_TASK
        frame.flags = FQ_LATE if self.late[task] else 0
        frame.entry, frame.task, frame.payload_len = index, task, n
        frame.claim_key, frame.claim_n, frame.claim_pos = batch.key, batch.n, entry.position
        frame.id_at, frame.id_len = <uint32_t>(plain.id.at - data), plain.id.size
        frame.body_at, frame.body_len = <uint32_t>(plain.body.at - data), plain.body.size
        if self.limited:
            frame.soft_s, frame.hard_s = self.limits[task]
        entry.late = self.late[task]
        if self.log_received is not None:
            self.log_received.append((self.names.names[task], plain.id.at[: plain.id.size]))
        if self.first == NONE and not self.holding and self.deal_one(index, &frame, data):
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
        self.take(batch, <char*>message, len(message))

    def place(self, uint32_t index, bytes payload not None, *, int kind=FQ_TASK, uint32_t task=NO_TASK, int flags=0,
              double expires=0.0, float soft_s=0.0, float hard_s=0.0, bint first=False):
        """Queue a held entry for the children, as a frame with this payload. A payload over a quarter of the ring's
        size must be a side file's path (flag SIDE)."""
        cdef Entry* entry = self.entry(index)
        cdef uint32_t n = len(payload)
        cdef uint32_t size = _align8(sizeof(fq_frame) + n)
        cdef fq_frame* frame
        if entry.state != HELD:
            raise ValueError(f"entry {index} is not in the caller's hands")
        if size > self.header.task_bytes // 2:
            raise ValueError(f"a payload of {n} bytes is too large for a ring of {self.header.task_bytes}")
        frame = <fq_frame*>malloc(size)
        if frame == NULL:
            raise MemoryError()
        memset(frame, 0, sizeof(fq_frame))
        frame.size, frame.kind, frame.flags, frame.entry, frame.task = size, kind, flags, index, task
        frame.payload_len, frame.expires, frame.soft_s, frame.hard_s = n, expires, soft_s, hard_s
        if entry.batch != NONE:
            frame.claim_key, frame.claim_n = self.batches[entry.batch].key, self.batches[entry.batch].n
            frame.claim_pos = entry.position
        memcpy(<char*>frame + sizeof(fq_frame), <char*>payload, n)
        if entry.side:
            self.drop_side(index)
        if flags & FQ_SIDE:
            self.sides[index] = payload
            entry.side = True
        entry.frame, entry.late = <char*>frame, bool(flags & FQ_LATE)
        self.note_limit(soft_s)
        self.note_limit(hard_s)
        if first:
            self.queue_first(index)
        else:
            self.queue_last(index)

    def adopt(self):
        """An entry with nothing to acknowledge, in the caller's hands: for a verdict on what is acknowledged already."""
        return self.new_entry(NONE, 0)

    def is_late(self, uint32_t task):
        return bool(self.late[task])

    # --- pending --------------------------------------------------------------------------------------------------

    cdef void queue_last(self, uint32_t index) noexcept:
        self.entries[index].state, self.entries[index].next = PENDING, NONE
        if self.first == NONE:
            self.first = index
        else:
            self.entries[self.last].next = index
        self.last = index
        self.pending += 1

    cdef void queue_first(self, uint32_t index) noexcept:
        self.entries[index].state, self.entries[index].next = PENDING, self.first
        if self.first == NONE:
            self.last = index
        self.first = index
        self.pending += 1

    cdef uint32_t unqueue(self) noexcept:
        cdef uint32_t index = self.first
        self.first = self.entries[index].next
        if self.first == NONE:
            self.last = NONE
        self.pending -= 1
        return index

    # --- deal -----------------------------------------------------------------------------------------------------

    cdef int choose(self) noexcept:
        # The child with the least before it, among those that may take one more.
        cdef uint32_t i
        cdef int best = -1
        cdef uint64_t least = 0, load
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if not hand.used:
                continue
            load = hand.count - hand.done
            if hand.count - hand.started >= hand.depth and (hand.depth or load):
                continue
            if best < 0 or load < least:
                if load32(&hand.slot.state) == FQ_READY and hand.count - hand.freed < IN_FLIGHT:
                    best, least = i, load
        return best

    cdef bint deal_one(self, uint32_t index, fq_frame* frame, const char* payload) noexcept:
        cdef int child = self.choose()
        return child >= 0 and self.write_frame(child, index, frame, payload)

    cdef bint write_frame(self, uint32_t child, uint32_t index, fq_frame* frame, const char* payload) noexcept:
        # False: no room. `payload` NULL: it lies behind the header already.
        cdef Hand* hand = &self.hands[child]
        cdef uint32_t cap = self.header.task_bytes
        cdef uint32_t place = <uint32_t>(hand.head % cap)
        cdef uint32_t pad = cap - place if place + frame.size > cap else 0
        cdef fq_frame* there
        cdef Entry* entry = &self.entries[index]
        if hand.head + pad + frame.size - hand.freed_at > cap:
            return False
        if pad:
            there = <fq_frame*>(hand.tasks + place)
            there.size, there.kind = pad, FQ_PAD
            hand.head += pad
            place = 0
        if payload == NULL:
            memcpy(hand.tasks + place, frame, frame.size)
        else:
            memcpy(hand.tasks + place, frame, sizeof(fq_frame))
            memcpy(hand.tasks + place + sizeof(fq_frame), payload, frame.payload_len)
        hand.entries[hand.count & (IN_FLIGHT - 1)] = index
        hand.places[hand.count & (IN_FLIGHT - 1)] = hand.head
        entry.state, entry.child, entry.number = DEALT, child, hand.count
        hand.head += frame.size
        hand.count += 1
        hand.wake = True
        return True

    def deal(self):
        """Give pending entries to children that may take more, and wake those that got some. Returns how many are left."""
        cdef uint32_t index
        cdef Entry* entry
        while self.first != NONE:
            index = self.first
            entry = &self.entries[index]
            if not self.deal_one(index, <fq_frame*>entry.frame, NULL):
                break
            self.unqueue()
            free(entry.frame)
            entry.frame = NULL
        self.publish()
        return self.pending

    cdef void publish(self) noexcept:
        # One store for all frames since the last: a child sees them together, and is woken once.
        cdef uint32_t i
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if hand.used and hand.wake:
                hand.wake = False
                hand.slot.task_count = hand.count
                store64(&hand.slot.task_head, hand.head)
                wake_child(hand.slot)

    def recall(self, uint32_t child):
        """Take back what a child has been dealt and not started; it is pending again, first in line. Returns how many."""
        cdef Hand* hand = &self.hands[child]
        cdef uint64_t started
        self.publish()
        started = or64(&hand.slot.gate, FQ_RECALL) & ~FQ_RECALL
        n = self.take_back(hand, started)
        and64(&hand.slot.gate, ~FQ_RECALL)
        return n

    cdef uint32_t take_back(self, Hand* hand, uint64_t started) except? NONE:
        cdef uint64_t number = hand.count
        cdef fq_frame* frame
        cdef uint32_t index, n = 0
        cdef char* kept
        while number > started:
            number -= 1
            index = hand.entries[number & (IN_FLIGHT - 1)]
            frame = <fq_frame*>(hand.tasks + hand.places[number & (IN_FLIGHT - 1)] % self.header.task_bytes)
            if index == NONE or frame.kind == FQ_VOID:
                continue
            kept = <char*>malloc(frame.size)
            if kept == NULL:
                raise MemoryError()
            memcpy(kept, frame, frame.size)
            frame.kind = FQ_VOID
            hand.entries[number & (IN_FLIGHT - 1)] = NONE
            self.entries[index].frame, self.entries[index].child = kept, NONE
            self.queue_first(index)
            n += 1
        self.recalled += n
        return n

    # --- children -------------------------------------------------------------------------------------------------

    def open_child(self, uint32_t child):
        """A slot is about to get a new child. It must be free: `reusable`."""
        cdef Hand* hand = &self.hands[child]
        self.segment.clear_slot(child)
        self.top = max(self.top, child + 1)
        if hand.entries == NULL:
            hand.entries = <uint32_t*>malloc(IN_FLIGHT * sizeof(uint32_t))
            hand.places = <uint64_t*>malloc(IN_FLIGHT * sizeof(uint64_t))
            if hand.entries == NULL or hand.places == NULL:
                raise MemoryError()
        hand.slot = self.segment.slot(child)
        hand.tasks, hand.results = self.segment.tasks(hand.slot), self.segment.results(hand.slot)
        hand.head = hand.count = hand.started = hand.done = hand.answered = 0
        hand.told_at = hand.told = hand.freed_at = hand.freed = 0
        hand.used, hand.wake, hand.depth = True, False, 1
        hand.slot.state = FQ_BOOTING

    def reusable(self, uint32_t child):
        """Whether nothing in a slot is needed any more."""
        cdef Hand* hand = &self.hands[child]
        return not hand.used and hand.freed == hand.count

    def dismiss(self, uint32_t child):
        """Ask a child to leave after its current task, and take back the rest. Returns how many came back."""
        cdef Hand* hand = &self.hands[child]
        n = self.recall(child)
        store32(&hand.slot.command, 1)
        swap32(&hand.slot.child_wait, 0)
        futex_wake(&hand.slot.child_wait)
        wake_for_room(hand.slot)
        return n

    def bury(self, uint32_t child):
        """A child is dead: take back what it had not started. Call `collect` first.

        Returns None, or what ran when it died: (entry, kind, task, flags, payload, started_ns). The entry is in the
        caller's hands; for an early acknowledged task it is a fresh one with nothing to acknowledge.
        """
        cdef Hand* hand = &self.hands[child]
        cdef uint64_t started = load64(&hand.slot.gate) & ~FQ_RECALL
        cdef uint64_t done = load64(&hand.slot.done_count)
        running = None
        self.publish()
        self.take_back(hand, started)
        store64(&hand.slot.gate, started)
        while done < started:
            if hand.answered <= done and hand.entries[done & (IN_FLIGHT - 1)] != NONE:
                running = self.disown(hand, done)
            else:
                self.finish(hand, done)
            done += 1
        hand.done = hand.started = hand.count       # the rest is void
        hand.used = False
        return running

    cdef tuple disown(self, Hand* hand, uint64_t number):
        cdef uint32_t index = hand.entries[number & (IN_FLIGHT - 1)]
        cdef Entry* entry = &self.entries[index]
        cdef fq_frame* frame = <fq_frame*>(hand.tasks + hand.places[number & (IN_FLIGHT - 1)] % self.header.task_bytes)
        cdef uint32_t held = index
        payload = (<char*>frame + sizeof(fq_frame))[: frame.payload_len]
        if frame.flags & FQ_SIDE:
            with open(_os.fsdecode(payload), "rb") as file:
                payload = file.read()
        found = (frame.kind, frame.task, frame.flags, payload, load64(&hand.slot.started_ns))
        if entry.settled:
            self.finish(hand, number)
            held = self.new_entry(NONE, 0)
        else:
            hand.entries[number & (IN_FLIGHT - 1)] = NONE
            entry.state, entry.child = HELD, NONE
        return (held, *found)

    def set_depth(self, uint32_t child, uint32_t depth):
        """How many frames a child may hold that it has not started; 0: one, if it is idle."""
        self.hands[child].depth = depth

    def set_depths(self, uint32_t depth):
        cdef uint32_t i
        for i in range(self.top):
            self.hands[i].depth = depth

    def load(self, uint32_t child):
        """(dealt and unstarted, running, nanoseconds that the running task has taken) of a child, as seen now."""
        cdef Hand* hand = &self.hands[child]
        cdef uint64_t began, now
        if not hand.used:
            return 0, False, 0
        began, now = load64(&hand.slot.started_ns), monotonic_ns()
        started = load64(&hand.slot.gate) & ~FQ_RECALL
        return hand.count - started, began != 0, now - began if 0 < began < now else 0

    def running(self, uint32_t child):
        """(frame number, entry, kind, task, soft_s, hard_s, started_ns) of what a child runs, or None."""
        cdef Hand* hand = &self.hands[child]
        cdef uint64_t began, number
        cdef fq_frame* frame
        if not hand.used:
            return None
        number = load64(&hand.slot.done_count)
        began = load64(&hand.slot.started_ns)
        if began == 0 or (load64(&hand.slot.gate) & ~FQ_RECALL) != number + 1:
            return None
        frame = <fq_frame*>(hand.tasks + hand.places[number & (IN_FLIGHT - 1)] % self.header.task_bytes)
        return number, frame.entry, frame.kind, frame.task, frame.soft_s, frame.hard_s, began

    def running_payload(self, uint32_t child):
        """(flags, payload) of the frame that a child runs: meaningful right after `running`."""
        cdef Hand* hand = &self.hands[child]
        cdef uint64_t number = load64(&hand.slot.done_count)
        cdef fq_frame* frame = <fq_frame*>(hand.tasks + hand.places[number & (IN_FLIGHT - 1)] % self.header.task_bytes)
        return frame.flags, (<char*>frame + sizeof(fq_frame))[: frame.payload_len]

    def aim_soft_limit(self, uint32_t child, uint64_t number):
        """Say which frame the signal that follows is meant for."""
        store64(&self.hands[child].slot.soft_target, number + 1)

    def unstarted(self):
        """Frames dealt and not started, in all rings."""
        cdef uint32_t i
        cdef uint64_t n = 0
        for i in range(self.top):
            if self.hands[i].used:
                n += self.hands[i].count - (load64(&self.hands[i].slot.gate) & ~FQ_RECALL)
        return n

    def pace(self):
        """(frames finished, nanoseconds spent in them, longest time in nanoseconds that a task has been running now), of
        all living children."""
        cdef uint32_t i
        cdef uint64_t done = 0, spent = 0, longest = 0, began, now = monotonic_ns()
        for i in range(self.top):
            if self.hands[i].used:
                began = load64(&self.hands[i].slot.started_ns)
                done += load64(&self.hands[i].slot.done_count)
                spent += load64(&self.hands[i].slot.busy_ns)
                if 0 < began < now and now - began > longest:
                    longest = now - began
        return done, spent, longest

    def running_late(self):
        """How many children run a late acknowledged task: those messages count as held."""
        cdef uint32_t i, n = 0
        cdef uint64_t done
        cdef fq_frame* frame
        for i in range(self.top):
            if not self.hands[i].used or load64(&self.hands[i].slot.started_ns) == 0:
                continue
            done = load64(&self.hands[i].slot.done_count)
            if (load64(&self.hands[i].slot.gate) & ~FQ_RECALL) <= done:
                continue
            frame = <fq_frame*>(self.hands[i].tasks
                                + self.hands[i].places[done & (IN_FLIGHT - 1)] % self.header.task_bytes)
            n += frame.flags & FQ_LATE
        return n

    def idle(self):
        """How many children are ready and have nothing to do."""
        cdef uint32_t i, n = 0
        for i in range(self.top):
            if self.hands[i].used and load32(&self.hands[i].slot.state) == FQ_READY:
                n += self.hands[i].count == load64(&self.hands[i].slot.done_count)
        return n

    def sleep(self, bint only_hungry):
        """The engine is about to wait. True: there is something to collect already, don't.

        `only_hungry`: children are to wake it only when they run out of tasks or of room for results.
        """
        cdef uint32_t i
        cdef Hand* hand
        swap32(&self.header.engine_wait, FQ_WAKE_HUNGRY if only_hungry else FQ_WAKE_ANY)
        for i in range(self.top):
            hand = &self.hands[i]
            if not hand.used:
                continue
            if only_hungry:
                if self.first != NONE and load64(&hand.slot.done_count) == hand.count and hand.done != hand.count:
                    return True
            elif (load64(&hand.slot.result_head) != hand.slot.result_tail
                  or load64(&hand.slot.done_count) != hand.done
                  or (load64(&hand.slot.gate) & ~FQ_RECALL) != hand.started):
                return True
        return False

    def awake(self):
        """The engine is not waiting any more: children need not wake it."""
        store32(&self.header.engine_wait, FQ_AWAKE)

    def batch_size(self, uint32_t batch):
        """Messages of a batch that have been taken so far."""
        return self.batches[batch].size

    def busy(self):
        """Frames dealt and not finished, in all rings (takes no notice of results that have not been collected)."""
        cdef uint32_t i
        cdef uint64_t n = 0
        for i in range(self.top):
            if self.hands[i].used:
                n += self.hands[i].count - self.hands[i].done
        return n

    # --- collect --------------------------------------------------------------------------------------------------

    def collect(self):
        """Read what the children have started, finished and sent. Returns requeues, rare: (entry, message)."""
        cdef uint32_t i
        cdef list rare = []
        for i in range(self.top):
            if self.hands[i].used:
                self.collect_from(i, rare)
        return rare

    cdef int collect_from(self, uint32_t child, list rare) except -1:
        cdef Hand* hand = &self.hands[child]
        cdef uint64_t done = load64(&hand.slot.done_count)          # before the results: see the rings' rule 4
        cdef uint64_t started = load64(&hand.slot.gate) & ~FQ_RECALL
        cdef uint64_t head = load64(&hand.slot.result_head)
        cdef uint64_t tail = hand.slot.result_tail
        cdef uint32_t index
        while hand.started < started:
            index = hand.entries[hand.started & (IN_FLIGHT - 1)]
            if index != NONE and not self.entries[index].late:
                self.settle_entry(index)
            hand.started += 1
            self.started += 1
        if tail != head:
            while tail != head:
                tail += self.collect_result(hand, tail, rare)
            store64(&hand.slot.result_tail, tail)
            wake_for_room(hand.slot)
        while hand.done < done:
            self.finish(hand, hand.done)
            hand.done += 1
        return 0

    cdef uint32_t collect_result(self, Hand* hand, uint64_t tail, list rare) except 0:
        cdef fq_result* frame = <fq_result*>(hand.results + tail % self.header.result_bytes)
        cdef uint32_t size = frame.size, index
        cdef char* data = <char*>frame + sizeof(fq_result)
        cdef bytes side
        if frame.kind == FQ_PAD:
            return size
        if frame.flags & FQ_SIDE:
            side = read_side(data[: frame.payload_len])
            self.add_result(hand, frame, <char*>side, len(side), rare)
        else:
            self.add_result(hand, frame, data, frame.payload_len, rare)
        return size

    cdef int add_result(self, Hand* hand, fq_result* frame, const char* data, size_t n, list rare) except -1:
        cdef uint32_t index = NONE
        if frame.kind == FQ_OUTCOME:
            hand.answered = frame.number + 1
            index = hand.entries[frame.number & (IN_FLIGHT - 1)]
            if frame.outcome == 3:
                if index != NONE and not self.entries[index].settled:
                    rare.append((index, data[:n]))
                return 0
        if n:
            put(&self.results, data, n)
            self.result_commands += frame.commands
        if index != NONE and not self.entries[index].settled:
            if n and self.separate_results:
                self.deferred.append(index)
            else:
                self.settle_entry(index)
        return 0

    cdef int finish(self, Hand* hand, uint64_t number) except -1:
        cdef uint32_t index = hand.entries[number & (IN_FLIGHT - 1)]
        if index == NONE:
            return 0
        self.finished += 1
        self.entries[index].finished = True
        if self.entries[index].told:
            self.part(index)
        return 0

    cdef void part(self, uint32_t index) noexcept:
        # Finished and told: nobody needs the entry any more, nor its place in the ring.
        cdef Entry* entry = &self.entries[index]
        cdef Hand* hand
        if entry.child != NONE:
            hand = &self.hands[entry.child]
            hand.entries[entry.number & (IN_FLIGHT - 1)] = NONE
        self.free_entry_at(index)

    # --- settle ---------------------------------------------------------------------------------------------------

    cdef int settle_entry(self, uint32_t index) except -1:
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
            return 0
        batch = &self.batches[entry.batch]
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
        cdef Entry* entry = self.entry(index)
        if entry.state != HELD:
            raise ValueError(f"entry {index} is not in the caller's hands")
        entry.finished = True
        self.settle_entry(index)

    def requeue(self, uint32_t index, bytes message not None, bytes key=None):
        """Push a message behind its queue again, or behind another list, and give up its claim, in one step of the next
        flush."""
        cdef Entry* entry = self.entry(index)
        if entry.batch == NONE or entry.settled:
            raise ValueError(f"entry {index} has nothing to give back")
        if key is None:
            key = self.keys[self.batches[entry.batch].key]
        if entry.state == HELD:
            entry.finished = True
        put(&self.acks, b"*3\r\n$5\r\nLPUSH\r\n", 15)
        put_bulk(&self.acks, <char*>key, len(key))
        put_bulk(&self.acks, <char*>message, len(message))
        self.ack_commands += 1
        self.bury_position(&self.batches[entry.batch], entry.position)
        self.quit_entry(index)

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

    def quit(self, uint32_t index):
        """A held entry whose position on the broker has been dealt with elsewhere (given back to its queue)."""
        self.entry(index).finished = True
        self.quit_entry(index)

    cdef int quit_entry(self, uint32_t index) except -1:
        cdef Entry* entry = &self.entries[index]
        cdef uint32_t b = entry.batch
        cdef Batch* batch
        entry.settled = entry.told = True
        self.settled += 1
        if b != NONE:
            batch = &self.batches[b]
            batch.states[entry.position] = TOLD
            batch.entries[entry.position] = NONE
            batch.remaining -= 1
            if batch.remaining == 0 and batch.closed and not batch.listed:
                self.list_complete(b)
        if entry.finished:
            self.part(index)
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
            if not batch.used or batch.n != n or batch.remaining == 0 or batch.dirty == 0:
                continue
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

    def oldest_dirty_ns(self):
        """Since when (monotonic nanoseconds) a partly settled batch has been waiting to be told; 0: none."""
        return self.batches[self.partial[0][0]].dirty_since if self.partial else 0

    def flush(self, bytes stamp not None, uint64_t linger_ns=0):
        """One transaction that tells the broker everything settled: results first, then acknowledgements, then `stamp`
        (a ready RESP command, by which its application can be recognised). Returns (bytes, replies to expect before
        EXEC's), or None if there is nothing to tell.

        Positions of partly settled batches are told after `linger_ns`. `confirm` must be called when it has been applied;
        one flush at a time.
        """
        cdef uint32_t commands
        self.tell_complete()
        self.tell_partial(monotonic_ns() - linger_ns)
        self.mark_told()
        if self.acks.size == 0 and (self.separate_results or self.results.size == 0):
            self.confirm()
            return None
        self.out.size = 0
        put(&self.out, b"*1\r\n$5\r\nMULTI\r\n", 15)
        commands = self.ack_commands + 1
        if not self.separate_results:
            put(&self.out, self.results.data, self.results.size)
            commands += self.result_commands
            self.results.size = self.result_commands = 0
        put(&self.out, self.acks.data, self.acks.size)
        put(&self.out, <char*>stamp, len(stamp))
        put(&self.out, b"*1\r\n$4\r\nEXEC\r\n", 14)
        self.acks.size = self.ack_commands = 0
        shrink(&self.results)
        return self.out.data[: self.out.size], commands + 1

    def flush_results(self):
        """As `flush`, for results that go to another server: (bytes, replies to expect). `confirm_results` follows."""
        if self.results.size == 0:
            return None
        data, commands = self.results.data[: self.results.size], self.result_commands
        self.results.size = self.result_commands = 0
        shrink(&self.results)
        self.sent_deferred, self.deferred = self.sent_deferred + self.deferred, []
        return data, commands

    def confirm_results(self):
        """The result store has what was flushed: late acknowledgements that waited for it may go."""
        cdef uint32_t index
        for index in self.sent_deferred:
            self.settle_entry(index)
        self.sent_deferred = []

    cdef void mark_told(self) noexcept:
        cdef uint32_t i
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if hand.entries == NULL:
                continue
            while hand.told < hand.done and hand.entries[hand.told & (IN_FLIGHT - 1)] == NONE:
                hand.told += 1
            hand.told_at = hand.head if hand.told == hand.count else hand.places[hand.told & (IN_FLIGHT - 1)]

    def confirm(self):
        """The broker has applied the last flush: the children's rings have room again."""
        cdef uint32_t i
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if hand.entries == NULL or hand.freed == hand.told:
                continue
            hand.freed, hand.freed_at = hand.told, hand.told_at
            hand.slot.acked_count = hand.freed
            store64(&hand.slot.acked_head, hand.freed_at)

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

    @property
    def held(self):
        """Entries in use, waiting ones not counted."""
        return self.used_entries - self.waiting

    @property
    def size(self):
        return self.used_entries

    # --- waiting --------------------------------------------------------------------------------------------------

    def park(self, uint32_t index, double at):
        """A held entry waits until the unix time `at`. Its message stays on the broker only."""
        cdef Entry* entry = self.entry(index)
        cdef Due* grown
        cdef uint32_t i, up
        if entry.state != HELD:
            raise ValueError(f"entry {index} is not in the caller's hands")
        if self.heap_size == self.heap_room:
            up = self.heap_room * 2 if self.heap_room else 1024
            grown = <Due*>realloc(self.heap, up * sizeof(Due))
            if grown == NULL:
                raise MemoryError()
            self.heap, self.heap_room = grown, up
        i = self.heap_size
        self.heap_size += 1
        while i and at < self.heap[(i - 1) // 2].at:
            self.heap[i] = self.heap[(i - 1) // 2]
            i = (i - 1) // 2
        self.heap[i].at, self.heap[i].entry = at, index
        entry.state = WAITING
        self.waiting += 1

    def next_due(self):
        """The unix time at which the next waiting entry is due, or None."""
        return self.heap[0].at if self.heap_size else None

    def take_due(self, double now, uint32_t limit):
        """Up to `limit` entries that are due, in the caller's hands again, with where to fetch each:
        (entry, claim list, index for LINDEX)."""
        cdef list due = []
        while self.heap_size and self.heap[0].at <= now and <uint32_t>len(due) < limit:
            due.append(self.fetch_place(self.pop_due()))
        return due

    cdef uint32_t pop_due(self) noexcept:
        cdef uint32_t index = self.heap[0].entry, i = 0, child
        cdef Due last
        self.heap_size -= 1
        last = self.heap[self.heap_size]
        while True:
            child = 2 * i + 1
            if child >= self.heap_size:
                break
            if child + 1 < self.heap_size and self.heap[child + 1].at < self.heap[child].at:
                child += 1
            if last.at <= self.heap[child].at:
                break
            self.heap[i] = self.heap[child]
            i = child
        self.heap[i] = last
        self.entries[index].state = HELD
        self.waiting -= 1
        return index

    cdef tuple fetch_place(self, uint32_t index):
        cdef Entry* entry = &self.entries[index]
        cdef Batch* batch = &self.batches[entry.batch]
        return index, (<bytes>self.claims[batch.key]) + b"%d" % batch.n, -<int64_t>entry.position - 1

    # --- giving back ----------------------------------------------------------------------------------------------

    def withdraw(self, uint32_t limit):
        """Up to `limit` entries that no child has, pending ones first, then waiting ones, in the caller's hands:
        (entry, key number, claim list number, position). Verdicts stay. Recall the children first."""
        cdef list out = []
        cdef uint32_t index, n
        for n in range(self.pending):
            if <uint32_t>len(out) >= limit:
                break
            index = self.unqueue()
            if (<fq_frame*>self.entries[index].frame).kind == FQ_VERDICT:
                self.queue_last(index)
                continue
            free(self.entries[index].frame)
            self.entries[index].frame = NULL
            self.entries[index].state = HELD
            out.append(index)
        while self.heap_size and <uint32_t>len(out) < limit:
            out.append(self.pop_due())
        return [(i, *self.where(i)) for i in out]


cdef bytes read_side(bytes path):
    with open(_os.fsdecode(path), "rb") as file:
        data = file.read()
    _os.unlink(_os.fsdecode(path))
    return data


cdef void shrink(Buffer* b) noexcept:
    # A buffer that once held a huge result does not keep its size.
    cdef char* data
    if b.room > (8 << 20) and b.size == 0:
        data = <char*>realloc(b.data, 1 << 20)
        if data != NULL:
            b.data, b.room = data, 1 << 20
