# What the engine knows of its children, and what it may ask of them at any time.

cdef class _Hands(_Claims):
    """The engine's view of the slots that have ever been used."""
    cdef Hand* hands
    cdef uint32_t slots
    cdef uint32_t top                          # slots that have ever been used

    def __cinit__(self, Segment segment not None, *_rest):
        self.slots = segment.header.slots
        self.hands = <Hand*>malloc(self.slots * sizeof(Hand))
        if self.hands == NULL:
            raise MemoryError()
        memset(self.hands, 0, self.slots * sizeof(Hand))

    def __dealloc__(self):
        cdef uint32_t i
        if self.hands != NULL:
            for i in range(self.slots):
                free(self.hands[i].places)
        free(self.hands)

    cdef Hand* hand(self, uint32_t child) except NULL:
        if child >= self.slots:
            raise IndexError(f"slot {child} of {self.slots}")
        return &self.hands[child]

    cdef inline fq_frame* frame_at(self, Hand* hand, uint64_t number) noexcept nogil:
        # A frame that has been written and whose settlement the broker has not confirmed.
        return <fq_frame*>(hand.tasks + hand.places[number & (IN_FLIGHT - 1)] % self.header.task_bytes)

    cdef inline uint64_t voids(self, Hand* hand, uint64_t number) noexcept nogil:
        # How many frames from `number` on have been taken back. A child passes over them in no time; while it runs a
        # long task they lie there, and must not count as work.
        if number >= hand.void_to:
            return 0
        return hand.void_to - (number if number > hand.void_from else hand.void_from)

    cdef inline uint64_t gate_of(self, Hand* hand) noexcept nogil:
        return load64(&hand.slot.gate) & ~FQ_RECALL

    cdef inline uint64_t burden(self, Hand* hand) noexcept nogil:
        # Frames that it has before it: dealt and not finished.
        if hand.berths:
            return hand.count - hand.started - self.voids(hand, hand.started) + hand.flying
        return hand.count - hand.done - self.voids(hand, hand.done)

    cdef inline uint64_t busy_since(self, Hand* hand) noexcept nogil:
        # When the current task began, 0: there is none. With an event loop no task keeps the next one waiting: there it
        # is when something was started or dealt last, if something lies there that has not been started.
        if not hand.berths:
            return load64(&hand.slot.started_ns)
        if hand.flying == 0 or self.gate_of(hand) + self.voids(hand, self.gate_of(hand)) >= hand.count:
            return 0
        return max(load64(&hand.slot.started_ns), hand.dealt_ns)

    cdef list flights_of(self, uint32_t child):
        # Entries that a child has in flight, in the order in which they were started.
        cdef uint32_t index
        cdef Entry* entry
        cdef list found = []
        for index in range(self.entry_room):
            entry = &self.entries[index]
            if entry.flying and entry.child == child:
                found.append((entry.number, index))
        return [index for _number, index in sorted(found)]

    cdef fq_berth* berth_of(self, uint32_t child, uint64_t number) noexcept nogil:
        # Where a child says that it has this frame in flight; NULL: it is through with it, or has not started it.
        cdef fq_berth* berths = self.segment.berths(child)
        cdef uint32_t i
        for i in range(self.hands[child].berths):
            if load64(&berths[i].frame) == number + 1:
                return &berths[i]
        return NULL

    cdef uint64_t flying_since(self, uint32_t child, uint64_t number) noexcept nogil:
        cdef fq_berth* berth = self.berth_of(child, number)
        return berth.started_ns if berth != NULL else 0

    def set_waker(self, uint32_t child, int waker):
        """The eventfd that wakes the event loop of a child. It is the caller's, and must stay open until `bury`."""
        cdef Hand* hand = self.hand(child)
        if hand.used:
            hand.waker = waker
            self.call(hand)

    cdef void call(self, Hand* hand) noexcept:
        # Wake a loop, whether it has asked for it or not.
        if hand.waker >= 0:
            signal_eventfd(hand.waker)

    def wish(self, uint32_t child, uint64_t number, bint softly):
        """Have a child with berths end one of its tasks: cancel it, or let its soft time limit interrupt it. False: it
        is over, or the child runs one task at a time."""
        cdef Hand* hand = self.hand(child)
        cdef fq_berth* berth
        if not hand.used or not hand.berths:
            return False
        berth = self.berth_of(child, number)
        if berth == NULL:
            return False
        store64(&berth.wish, number + 1 | (FQ_SOFTLY if softly else 0))
        fq_step()
        store64(&hand.slot.wishes, hand.slot.wishes + 1)
        fq_step()
        self.call(hand)
        return True

    def reusable(self, uint32_t child):
        """Whether nothing in a slot is needed any more."""
        cdef Hand* hand = self.hand(child)
        return not hand.used and hand.freed == hand.count

    def bench(self, uint32_t child, bint waits):
        """Deal nothing to a child, for now: it waits until another one has left. Or: it has."""
        self.hand(child).leaving = waits

    def set_depth(self, uint32_t child, uint32_t depth):
        """How many frames a child may hold that it has not started; 0: one, if it is idle."""
        self.hand(child).depth = depth

    def set_depths(self, uint32_t depth):
        """The same for all children."""
        cdef uint32_t i
        for i in range(self.top):
            self.hands[i].depth = depth

    def load(self, uint32_t child):
        """(dealt and unstarted, running, nanoseconds that the running task has taken) of a child, as seen now."""
        cdef Hand* hand = self.hand(child)
        cdef uint64_t began, now, started
        if not hand.used:
            return 0, False, 0
        started = self.gate_of(hand)
        began, now = self.busy_since(hand), monotonic_ns()
        unstarted = hand.count - started - self.voids(hand, started)
        running = hand.flying != 0 or started != hand.started if hand.berths else began != 0
        return unstarted, running, now - began if 0 < began < now else 0

    def all_running(self, uint32_t child):
        """As `running`, of everything that a child runs: a list."""
        cdef Hand* hand = self.hand(child)
        cdef fq_berth* berths
        cdef uint64_t frame, started
        cdef uint32_t i
        cdef list found = []
        if not hand.berths:
            running = self.running(child)
            return [] if running is None else [running]
        berths, started = self.segment.berths(child), self.gate_of(hand)
        for i in range(hand.berths if hand.used else 0):
            frame = load64(&berths[i].frame)
            if 0 < frame <= started:
                fact = (frame - 1, berths[i].entry, berths[i].kind, berths[i].task, berths[i].soft_s, berths[i].hard_s,
                        berths[i].started_ns)
                if load64(&berths[i].frame) == frame:
                    found.append(fact)
        return sorted(found)

    def running(self, uint32_t child):
        """(frame number, entry, kind, task, soft_s, hard_s, started_ns) of what a child runs, or None. Of one that may
        run several tasks at a time, see `all_running`: None."""
        cdef Hand* hand = self.hand(child)
        cdef uint64_t began, number
        cdef fq_frame* frame
        if not hand.used or hand.berths:
            return None
        # In this order: the time is that of the frame that the gate speaks of, or of one that began later.
        number = load64(&hand.slot.done_count)
        if self.gate_of(hand) != number + 1:
            return None
        began = load64(&hand.slot.started_ns)
        if began == 0:
            return None
        frame = self.frame_at(hand, number)
        return number, frame.entry, frame.kind, frame.task, frame.soft_s, frame.hard_s, began

    def running_payload(self, uint32_t child, uint64_t number):
        """(flags, payload) of a frame that `running` has named, before anything else is collected or flushed."""
        cdef Hand* hand = self.hand(child)
        cdef fq_frame* frame
        frame = self.kept_frame(hand, child, number) if hand.used and hand.berths else NULL
        if frame == NULL:
            if not hand.used or not (hand.started if hand.berths else hand.done) <= number < hand.count:
                raise ValueError(f"child {child} does not run frame {number}")
            frame = self.frame_at(hand, number)
        return frame.flags, (<char*>frame + sizeof(fq_frame))[: frame.payload_len]

    cdef fq_frame* kept_frame(self, Hand* hand, uint32_t child, uint64_t number) noexcept:
        # The copy of what is in flight, if it has been made.
        cdef fq_berth* berth = self.berth_of(child, number)
        cdef Entry* entry
        if berth == NULL or berth.entry >= self.entry_room:
            return NULL
        entry = &self.entries[berth.entry]
        if not entry.flying or entry.child != child or entry.number != number:
            return NULL
        return <fq_frame*>entry.frame

    def aim_soft_limit(self, uint32_t child, uint64_t number):
        """Say which frame the signal that follows is meant for."""
        cdef Hand* hand = self.hand(child)
        if hand.used:
            store64(&hand.slot.soft_target, number + 1)

    def aim_memory_limit(self, uint32_t child, uint64_t number):
        """The same for the memory limit."""
        cdef Hand* hand = self.hand(child)
        if hand.used:
            store64(&hand.slot.soft_target, number + 1 | FQ_MEMORY)

    def executed(self, uint32_t child):
        """Tasks that the present child of a slot has executed."""
        cdef Hand* hand = self.hand(child)
        return load64(&hand.slot.executed) if hand.used else 0

    def late_running(self):
        """Where the late acknowledged messages lie that children run now: (key number, claim list number, position).
        Should this worker die, those are the ones that may have killed it."""
        cdef list found = []
        cdef uint32_t i
        cdef uint64_t done
        cdef Hand* hand
        cdef fq_frame* frame
        for i in range(self.top):
            hand = &self.hands[i]
            if not hand.used or load64(&hand.slot.started_ns) == 0:
                continue
            if hand.berths:
                self.segment.find_in_berths(i, found)
                continue
            done = load64(&hand.slot.done_count)
            if self.gate_of(hand) > done:
                frame = self.frame_at(hand, done)
                if frame.flags & FQ_LATE and frame.kind == FQ_TASK:
                    found.append((frame.claim_key, frame.claim_n, frame.claim_pos))
        return found

    def unstarted(self):
        """Frames dealt and neither started nor taken back, in all rings."""
        cdef uint32_t i
        cdef uint64_t n = 0, started
        for i in range(self.top):
            if self.hands[i].used:
                started = self.gate_of(&self.hands[i])
                n += self.hands[i].count - started - self.voids(&self.hands[i], started)
        return n

    def busy(self):
        """Frames dealt and not finished, in all rings (takes no notice of results that have not been collected)."""
        cdef uint32_t i
        cdef uint64_t n = 0
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if hand.used:
                n += self.burden(hand)
        return n

    def pace(self):
        """(tasks executed, nanoseconds spent in them, nanoseconds that the longest task has been running), of all
        living children."""
        cdef uint32_t i
        cdef uint64_t executed = 0, spent = 0, longest = 0, began, now = monotonic_ns()
        for i in range(self.top):
            if self.hands[i].used:
                began = self.busy_since(&self.hands[i])
                executed += load64(&self.hands[i].slot.executed)
                spent += load64(&self.hands[i].slot.busy_ns)
                if 0 < began < now and now - began > longest:
                    longest = now - began
        return executed, spent, longest

    def running_late(self):
        """How many late acknowledged tasks children run: those messages count as held."""
        cdef uint32_t i, n = 0
        cdef uint64_t done
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if not hand.used or load64(&hand.slot.started_ns) == 0:
                continue
            if hand.berths:
                n += hand.late
                continue
            done = load64(&hand.slot.done_count)
            if self.gate_of(hand) > done:
                n += self.frame_at(hand, done).flags & FQ_LATE
        return n

    def idle(self):
        """How many children are ready and have nothing to do."""
        cdef uint32_t i, n = 0
        cdef uint64_t done
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if hand.used and not hand.leaving and load32(&hand.slot.state) == FQ_READY:
                done = load64(&hand.slot.done_count)
                n += hand.count == done + self.voids(hand, done) and hand.flying == 0
        return n

    def room(self):
        """How many more tasks the children with berths may get now, what they may hold beyond those included."""
        cdef uint32_t i
        cdef uint64_t n = 0, burden, most
        cdef Hand* hand
        for i in range(self.top):
            hand = &self.hands[i]
            if hand.used and hand.berths and not hand.leaving and load32(&hand.slot.state) == FQ_READY:
                burden, most = self.burden(hand), hand.berths + hand.depth
                n += most - burden if burden < most else 0
        return n
