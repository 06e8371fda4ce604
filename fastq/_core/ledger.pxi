# The engine's end of everything: each delivery it holds, from claim to settlement, settled once.
#
# A *batch* is one claim list on the broker; an *entry* is one message of it. What an entry goes through:
#
#     take ----> pending ----> dealt (a frame in a child's ring) ----> started ----> finished
#       |           ^  ^                     |
#       |           |  +------ recall -------+
#       +-> held (Python looks at it) -> waiting (an ETA) -> due -> held
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
#     _Intake      claimed messages                      intake.pxi
#     _Collecting  result rings, sleep                   collect.pxi
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
include "intake.pxi"
include "collect.pxi"

cdef class Ledger(_Collecting):
    """Every delivery that this worker holds, and the engine's end of the rings. One thread.

    `tasks` are the names that the program knows, as bytes; `late` says of each whether it is acknowledged late;
    `limits` gives each its (soft, hard) time limits in seconds, 0 for none.
    """

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
