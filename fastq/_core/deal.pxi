# From the line of pending entries into the children's rings, and back.

cdef class _Dealing(_Waiting):
    """Pending entries, in order, and the writing end of the task rings."""
    cdef uint32_t first                        # pending, in order: by rank, and within a rank as they came
    cdef uint32_t[RANKS] lasts                 # by rank: the last that is pending
    cdef uint8_t lowest_dealt                  # no rank in the rings is lower than this one: 0, all are alike
    cdef readonly bint passing                 # something is pending that came after less urgent ones were dealt
    cdef readonly uint32_t pending
    cdef readonly uint64_t recalled
    cdef uint64_t* admitted                    # by task number: messages that were queued or dealt, once each
    cdef uint32_t tasks

    def __cinit__(self, Segment _segment, list tasks not None, *_rest):
        self.empty_line()
        self.tasks = len(tasks)
        self.admitted = <uint64_t*>calloc(self.tasks + 1, sizeof(uint64_t))
        if self.admitted == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self.admitted)

    cdef int more_tasks(self, uint32_t tasks) except -1:
        cdef uint64_t* grown
        if tasks > self.tasks:
            grown = <uint64_t*>realloc(self.admitted, tasks * sizeof(uint64_t))
            if grown == NULL:
                raise MemoryError()
            memset(&grown[self.tasks], 0, (tasks - self.tasks) * sizeof(uint64_t))
            self.admitted, self.tasks = grown, tasks
        return 0

    cdef inline void count_admitted(self, fq_frame* frame, int n) noexcept nogil:
        if frame.kind == FQ_TASK and frame.task < self.tasks:
            self.admitted[frame.task] += n

    cdef void queue_last(self, uint32_t index) noexcept:
        # Behind all of its rank.
        cdef uint8_t rank = self.entries[index].rank
        if rank < self.lowest_dealt:
            self.passing = True
        self.insert(index, self.last_until(rank))
        self.lasts[rank] = index

    cdef void queue_first(self, uint32_t index) noexcept:
        # Before all of its rank.
        cdef uint8_t rank = self.entries[index].rank
        self.insert(index, self.last_until(rank - 1))
        if self.lasts[rank] == NONE:
            self.lasts[rank] = index

    cdef void empty_line(self) noexcept:
        cdef uint32_t rank
        self.first, self.pending = NONE, 0
        for rank in range(RANKS):
            self.lasts[rank] = NONE

    cdef inline uint32_t last_until(self, int rank) noexcept:
        # The last pending entry of this rank or a better one; NONE: there is none.
        while rank >= 0:
            if self.lasts[rank] != NONE:
                return self.lasts[rank]
            rank -= 1
        return NONE

    cdef inline void insert(self, uint32_t index, uint32_t before) noexcept:
        # Into the line, behind `before`; NONE: first of all.
        self.entries[index].state = PENDING
        if before == NONE:
            self.entries[index].next, self.first = self.first, index
        else:
            self.entries[index].next, self.entries[before].next = self.entries[before].next, index
        self.pending += 1

    cdef uint32_t unqueue(self) noexcept:
        cdef uint32_t index = self.first
        self.first = self.entries[index].next
        if self.lasts[self.entries[index].rank] == index:
            self.lasts[self.entries[index].rank] = NONE
        self.pending -= 1
        return index

    cdef inline uint32_t pad_before(self, Hand* hand, uint32_t size) noexcept nogil:
        # A frame never wraps.
        cdef uint32_t left = self.header.task_bytes - hand.place
        return left if size > left else 0

    cdef inline bint has_room(self, Hand* hand, uint32_t size) noexcept nogil:
        # No frame may overtake the confirmed.
        return hand.head + self.pad_before(hand, size) + size - hand.freed_at <= self.header.task_bytes

    cdef inline bint may_take(self, Hand* hand, uint64_t load, uint32_t size) noexcept nogil:
        # `load`: what it has before it. Depth 0: one frame, if it has nothing.
        if hand.berths:
            if load >= hand.berths + hand.depth:
                return False
        elif hand.depth == 0 and load != 0:
            return False
        elif hand.depth != 0 and hand.count - hand.started - self.voids(hand, hand.started) >= hand.depth:
            return False
        return (not hand.leaving
                and hand.count - hand.freed < IN_FLIGHT
                and self.has_room(hand, size)
                and load32(&hand.slot.state) == FQ_READY)

    cdef int choose(self, uint32_t size) noexcept:
        # The child with the least before it, among those that may take a frame of this size now; -1: none.
        cdef uint32_t i
        cdef int best = -1
        cdef uint64_t least = 0, load
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if not hand.used:
                continue
            load = self.burden(hand)
            if (best < 0 or load < least) and self.may_take(hand, load, size):
                best, least = i, load
        return best

    cdef bint deal_one(self, uint32_t index, fq_frame* frame, const char* payload) noexcept:
        # False: nobody may take it. `payload` NULL: it lies behind the header already.
        cdef int child = self.choose(frame.size)
        if child < 0:
            return False
        self.write_frame(child, index, frame, payload)
        return True

    cdef void write_frame(self, uint32_t child, uint32_t index, fq_frame* frame, const char* payload) noexcept:
        # The child sees nothing of it before `publish`.
        cdef Hand* hand = &self.hands[child]
        cdef uint32_t pad = self.pad_before(hand, frame.size)
        cdef Entry* entry = &self.entries[index]
        cdef fq_frame* there = <fq_frame*>(hand.tasks + hand.place)
        if pad:
            fq_step()
            there.size, there.kind = pad, FQ_PAD
            hand.head += pad
            hand.place = 0
            there = <fq_frame*>hand.tasks
        fq_step()
        if payload == NULL:
            memcpy(there, frame, frame.size)
        else:
            memcpy(there, frame, sizeof(fq_frame))
            fq_step()
            memcpy(<char*>there + sizeof(fq_frame), payload, frame.payload_len)
        fq_step()
        there.number = <uint32_t>hand.count
        hand.entries[hand.count & (IN_FLIGHT - 1)] = index
        hand.places[hand.count & (IN_FLIGHT - 1)] = hand.head
        entry.state, entry.child, entry.number = DEALT, child, hand.count
        if entry.rank > self.lowest_dealt:
            self.lowest_dealt = entry.rank
        hand.head += frame.size
        hand.place += frame.size
        if hand.place == self.header.task_bytes:
            hand.place = 0
        hand.count += 1
        hand.wake = True
        fq_check(hand.head - hand.freed_at <= self.header.task_bytes, b"a task ring is overrun")
        fq_check(hand.count - hand.freed <= IN_FLIGHT, b"more frames are out than can be remembered")
        fq_check(hand.place == hand.head % self.header.task_bytes, b"the place is not that of the head")

    def deal(self):
        """Give pending entries to children that may take more, and wake who got some. Returns how many are left."""
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

    @property
    def cramped(self):
        """Whether the next message finds no room in a ring that is mostly taken by frames whose end the broker has not
        been told: its child would soon wait for that."""
        cdef uint32_t i, size
        cdef uint64_t unstarted
        cdef Hand* hand
        if self.first == NONE:
            return False
        size = (<fq_frame*>self.entries[self.first].frame).size
        for i in range(self.top):
            hand = &self.hands[i]
            if hand.used and hand.told < hand.done:
                unstarted = hand.head - hand.places[hand.started & (IN_FLIGHT - 1)] if hand.started < hand.count else 0
                if unstarted < self.header.task_bytes // 2 and not self.has_room(hand, size):
                    return True
        return False

    cdef void publish(self) noexcept:
        # One store for all frames since the last: a child sees them together, and is woken once.
        cdef uint32_t i
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if hand.used and hand.wake:
                hand.wake = False
                fq_step()
                hand.slot.task_count = hand.count
                fq_step()
                store64(&hand.slot.task_head, hand.head)
                fq_step()
                if hand.berths:
                    hand.dealt_ns = monotonic_ns()
                wake_child(hand.slot, hand.waker)

    def recall(self, uint32_t child):
        """Take back what a child has not started; it is pending again, first in line. Returns how many."""
        cdef Hand* hand = self.hand(child)
        cdef uint64_t started
        if not hand.used:
            return 0
        self.publish()
        started = or64(&hand.slot.gate, FQ_RECALL) & ~FQ_RECALL
        fq_step()
        try:
            return self.take_back(hand, started)
        finally:
            and64(&hand.slot.gate, ~FQ_RECALL)

    cdef uint32_t take_back(self, Hand* hand, uint64_t started) except? NONE:
        # The child starts nothing meanwhile. From the last to the first, so that they are in line as they were.
        cdef uint64_t number = hand.count
        cdef fq_frame* frame
        cdef uint32_t index, n = 0
        cdef char* kept
        while number > started:
            number -= 1
            index = hand.entries[number & (IN_FLIGHT - 1)]
            frame = self.frame_at(hand, number)
            if index == NONE:
                continue        # it is void already
            kept = <char*>malloc(frame.size)
            if kept == NULL:
                raise MemoryError()
            memcpy(kept, frame, frame.size)
            frame.kind = FQ_VOID
            fq_step()
            hand.entries[number & (IN_FLIGHT - 1)] = NONE
            self.entries[index].frame, self.entries[index].child = kept, NONE
            self.queue_first(index)
            n += 1
        hand.void_from, hand.void_to = started, hand.count
        self.recalled += n
        return n

    def withdraw(self, uint32_t limit):
        """Up to `limit` entries that no child has, pending ones first, then waiting ones, in the caller's hands:
        (entry, key number, claim list number, position). Verdicts stay. Recall the children first."""
        cdef list out = []
        cdef list kept = []
        cdef uint32_t index, n
        for n in range(self.pending):
            if <uint32_t>len(out) >= limit:
                break
            index = self.unqueue()
            if self.entries[index].batch == NONE or (<fq_frame*>self.entries[index].frame).kind == FQ_VERDICT:
                kept.append(index)
                continue
            self.hold_again(index)
            out.append(index)
        for index in reversed(kept):
            self.queue_first(index)     # back to where they were
        while self.heap_size and <uint32_t>len(out) < limit:
            out.append(self.pop_due())
        return [(i, *self.where(i)) for i in out]

    def line(self):
        """Pending task frames in order: (entry, task, flags, payload). A copy of each; recall the children first."""
        cdef list out = []
        cdef uint32_t index = self.first
        cdef fq_frame* frame
        while index != NONE:
            frame = <fq_frame*>self.entries[index].frame
            if frame.kind == FQ_TASK:
                out.append((index, frame.task, frame.flags, (<char*>frame + sizeof(fq_frame))[: frame.payload_len]))
            index = self.entries[index].next
        return out

    def pull(self, set entries not None):
        """Take these pending entries out of the line, into the caller's hands; the others keep their order."""
        cdef uint32_t index = self.first, after
        self.empty_line()
        while index != NONE:
            after = self.entries[index].next
            if index in entries:
                self.hold_again(index)
            else:
                self.queue_last(index)
            index = after

    cdef void hold_again(self, uint32_t index) noexcept:
        self.count_admitted(<fq_frame*>self.entries[index].frame, -1)
        free(self.entries[index].frame)
        self.entries[index].frame = NULL
        self.entries[index].state = HELD
