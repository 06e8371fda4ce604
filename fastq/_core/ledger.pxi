# The engine's end of everything: each delivery it holds, from claim to settlement, settled once.
#
# A *batch* is one claim list on the broker; an *entry* is one message of it. What an entry goes through:
#
#     take ----> pending ----> dealt (a frame in a child's ring) ----> started ----> finished
#       |           ^  ^                     |
#       |           |  +------ recall -------+
#       +-> held (Python looks at it) -> waiting (an ETA) -> due -> pending, or held again if it has become unusual
#
# Early acknowledged entries are settled when the child has started them, late ones by their outcome. A settled
# position is *dirty* until a flush tells the broker: a batch settled whole by one UNLINK, single positions by LSET
# after a while. An entry is free again when it is finished and told; a frame's room in the ring only when the broker
# has confirmed.
#
# The ledger is a house of one room per storey, each a class that knows those below and has its own file:
#
#     _Claims      entries and batches                   claims.pxi      (their structs: tables.pxi)
#     _Hands       children, as the engine sees them     hands.pxi
#     _Settling    the end of an entry                   settle.pxi
#     _Flushing    the broker is told                    flush.pxi
#     _Waiting     entries with a time                   waiting.pxi
#     _Dealing     pending entries, task rings           deal.pxi
#     _Passing     the order among priorities             passing.pxi
#     _Telling     events for monitors                   telling.pxi
#     _Intake      claimed messages                      intake.pxi
#     _Resuming    messages whose time has come          resume.pxi
#     _Collecting  result rings, sleep                   collect.pxi
#     _Looking     views for whoever asks                look.pxi
#     Ledger       children come and go                  here
#
# A message costs no Python object unless it is unusual.

include "tables.pxi"
include "claims.pxi"
include "hands.pxi"
include "settle.pxi"
include "flush.pxi"
include "waiting.pxi"
include "deal.pxi"
include "passing.pxi"
include "telling.pxi"
include "intake.pxi"
include "resume.pxi"
include "collect.pxi"
include "look.pxi"


@cython.final
cdef class Ledger(_Looking):
    """Every delivery that this worker holds, and the engine's end of the rings. One thread.

    `tasks` are the names that the program knows, as bytes; `late` says of each whether it is acknowledged late;
    `limits` gives each its (soft, hard) time limits in seconds, 0 for none.
    """

    def open_child(self, uint32_t child, uint32_t berths=0):
        """A slot is about to get a new child, one that may have `berths` tasks in flight, or (0) runs one at a time.
        Raises ValueError unless it is `reusable`."""
        cdef Hand* hand = self.hand(child)
        if berths > FQ_BERTHS:
            raise ValueError(f"a child has {FQ_BERTHS} tasks in flight at most, not {berths}")
        if hand.used or hand.freed != hand.count:
            raise ValueError(f"slot {child} is still needed")
        if hand.entries == NULL:
            # By frame number: where the frame lies, and behind those, which entry it is. One block.
            hand.places = <uint64_t*>malloc(IN_FLIGHT * (sizeof(uint64_t) + sizeof(uint32_t)))
            if hand.places == NULL:
                raise MemoryError()
            hand.entries = <uint32_t*>&hand.places[IN_FLIGHT]
        self.segment.clear_slot(child)
        self.top = max(self.top, child + 1)
        hand.slot = self.segment.slot(child)
        hand.tasks, hand.results = self.segment.tasks(hand.slot), self.segment.results(hand.slot)
        hand.head = hand.count = hand.started = hand.done = hand.answered = hand.stored = hand.stored_in = 0
        hand.told_at = hand.told = hand.freed_at = hand.freed = hand.void_from = hand.void_to = 0
        hand.place, hand.depth = 0, 1
        hand.used, hand.leaving, hand.wake = True, False, False
        self.open_berths(hand, child, berths)
        hand.slot.state = hand.state = FQ_BOOTING
        store64(&self.board.figures[SLOTS_USED], self.top)

    cdef void open_berths(self, Hand* hand, uint32_t child, uint32_t berths) noexcept:
        hand.berths = hand.slot.berths = berths
        hand.flying = hand.late = 0
        hand.waker, hand.dealt_ns = -1, 0
        if berths:
            memset(self.segment.berths(child), 0, berths * sizeof(fq_berth))

    def note_turn(self):
        """Write this ledger's figures to the board, and that the engine's loop goes on: once a turn."""
        cdef uint64_t* figures = self.board.figures
        figures[TURNS] += 1
        figures[TAKEN], figures[STARTED], figures[FINISHED] = self.taken, self.started, self.finished
        figures[SETTLED], figures[RECALLED], figures[PENDING_NOW] = self.settled, self.recalled, self.pending
        figures[WAITING_NOW], figures[HELD_NOW], figures[BACKLOG] = self.heap_size, self.used_entries, self.results.size
        figures[UNSTARTED] = self.unstarted()
        store64(&figures[TURN_NS], monotonic_ns())

    def note_verdict(self, bytes task not None, str kind not None):
        """Count a verdict on a message of this task."""
        count_verdict(self.board, task, kind)

    def note_flush(self, uint64_t took_ns, uint64_t size):
        """Count a flush that has been answered, and its bytes."""
        self.board.figures[FLUSHES] += 1
        self.board.figures[FLUSH_NS] += took_ns
        self.board.figures[FLUSHED] += size

    def note_lengths(self, list lengths not None):
        """Write what a claim told of the queues' lengths, by key, to the board."""
        cdef uint32_t row, key
        cdef uint64_t now = monotonic_ns()
        for row in range(self.board.queue_rows + 1):
            self.board.queues[row].length = 0
        for key in range(<uint32_t>min(len(lengths), len(self.keys))):
            self.queue_row(key).length += lengths[key]
            self.queue_row(key).looked_ns = now

    def dismiss(self, uint32_t child, *, bint ending=False):
        """Ask a child to leave after its current task, and take back the rest. `ending`: a signal will tell it to end
        before, and is meant for it alone. Returns how many came back."""
        cdef Hand* hand = self.hand(child)
        if not hand.used:
            return 0
        hand.leaving = True
        n = self.recall(child)
        store32(&hand.slot.command, FQ_END if ending else FQ_LEAVE)
        if hand.berths:
            self.call(hand)
        else:
            swap32(&hand.slot.child_wait, FQ_UP)
            futex_wake(&hand.slot.child_wait)
        return n

    def bury(self, uint32_t child):
        """A child is dead: what it has sent is collected, what it had not started is pending again.

        Returns what ran when it died, in the order in which it was started: (entry, kind, task, flags, payload,
        started_ns) each. The entries are in the caller's hands; for an early acknowledged task it is a fresh one with
        nothing to acknowledge.
        """
        cdef Hand* hand = self.hand(child)
        cdef uint64_t started
        if not hand.used:
            return []
        self.publish()
        self.collect_from(hand)
        started = self.gate_of(hand)
        self.take_back(hand, started)
        store64(&hand.slot.gate, started)
        victims = self.disown_flights(hand, child) if hand.berths else self.disown_current(hand, child, started)
        hand.done = hand.started = hand.count       # the rest is void
        hand.used = False
        return victims

    cdef list disown_current(self, Hand* hand, uint32_t child, uint64_t started):
        # At most one frame is started and not done. If its outcome is there, or the tally has it, it only had not been
        # marked as done.
        cdef list victims = []
        cdef uint64_t number
        for number in range(hand.done, started):
            if (hand.answered <= number and hand.entries[number & (IN_FLIGHT - 1)] != NONE
                    and not counted(self.segment, child, number)):
                victims.append(self.disown(hand, number))
            else:
                self.finish(hand, number)
        return victims

    cdef list disown_flights(self, Hand* hand, uint32_t child):
        # Whatever it had in flight, and has not sent an outcome of.
        cdef list victims = []
        cdef uint32_t index
        for index in self.flights_of(child):
            victims.append(self.disown_flight(hand, child, index))
        memset(self.segment.berths(child), 0, hand.berths * sizeof(fq_berth))
        return victims

    cdef tuple disown_flight(self, Hand* hand, uint32_t child, uint32_t index):
        cdef Entry* entry = &self.entries[index]
        cdef fq_frame* frame = <fq_frame*>entry.frame
        cdef bint settled = entry.settled
        payload = (<char*>frame + sizeof(fq_frame))[: frame.payload_len]
        if frame.flags & FQ_SIDE:
            payload = self.read_side(payload)
        found = (frame.kind, frame.task, frame.flags, payload, self.flying_since(child, entry.number))
        if settled:
            self.land(hand, index)
            return (self.new_entry(NONE, 0), *found)
        self.put_down(hand, index)
        entry.state, entry.child, entry.gone = HELD, NONE, False
        return (index, *found)

    cdef tuple disown(self, Hand* hand, uint64_t number):
        cdef uint32_t index = hand.entries[number & (IN_FLIGHT - 1)], held = index
        cdef Entry* entry = &self.entries[index]
        cdef fq_frame* frame = self.frame_at(hand, number)
        payload = (<char*>frame + sizeof(fq_frame))[: frame.payload_len]
        if frame.flags & FQ_SIDE:
            payload = self.read_side(payload)
        found = (frame.kind, frame.task, frame.flags, payload, load64(&hand.slot.started_ns))
        if entry.settled:
            self.finish(hand, number)
            held = self.new_entry(NONE, 0)
        else:
            hand.entries[number & (IN_FLIGHT - 1)] = NONE
            entry.state, entry.child = HELD, NONE
        return (held, *found)
