# What the ledger remembers of messages, claim lists and children: arrays of C structs, indices instead of objects.

cdef enum:
    NONE = 0xFFFFFFFF
    RANKS = 16                  # of how many degrees of urgency entries are; rank 0 goes first
    IN_FLIGHT = 4096            # Frames a ring may hold that the broker has not confirmed; a power of two.
    HELD = 0                    # states of an entry
    PENDING = 1
    DEALT = 2
    WAITING = 3
    OVER = 4                    # settled by the caller, not told yet
    UNUSED = 5
    KEPT = 0                    # states of a position
    DIRTY = 1
    TOLD = 2

cdef struct Entry:
    uint32_t batch, position    # batch NONE: nothing to acknowledge (a verdict on an early acknowledged task)
    uint32_t child, next        # slot while dealt; link of the pending and of the free list
    uint64_t number             # frame number while dealt; while it waits, its task or NO_TASK
    char* frame                 # the frame, ready to be written, while pending
    uint8_t state, late, settled, finished, told, side
    uint8_t flying              # in flight beside others: `frame` is a copy, the frame's room may be written again
    uint8_t gone                # ... and its ring does not remember it any more
    uint8_t rank                # its place among priorities: 0 goes first; without a place on the broker 0

cdef struct Batch:
    uint64_t n                  # the claim list's number
    uint64_t dirty_since
    uint32_t key, size, room, remaining, dirty
    uint32_t* entries           # by position; NONE once it is told
    uint8_t* states             # by position: KEPT, DIRTY, TOLD
    uint32_t next
    bint used, closed, listed

cdef struct Hand:               # what the engine knows of a child
    fq_slot* slot
    char* tasks
    char* results
    uint64_t head, count        # as written to the slot, now or with the next `publish`
    uint32_t place              # head % ring size
    uint32_t state              # of the slot, as seen last
    uint64_t void_from, void_to         # numbers of the frames that were taken back last: all void
    uint64_t started, done      # as seen last
    uint64_t told_at, told      # ring position and frames whose settlement has been sent
    uint64_t freed_at, freed    # ... and confirmed
    uint64_t answered           # 1 + number of the last frame with an outcome
    uint64_t stored             # 1 + number of the last frame with something for the result store
    uint64_t stored_in          # ... which goes there with this flush of results
    uint32_t* entries           # by frame number, NONE: told or taken back
    uint64_t* places            # by frame number: position in the ring
    uint32_t depth              # frames it may hold unstarted; 0: one, and only while it is idle; with berths: none
    bint used, leaving, wake
    uint32_t berths             # tasks that it may have in flight; 0: one, as children without an event loop
    uint32_t flying, late       # that it has in flight, and those of them that are acknowledged late
    int waker                   # eventfd of its loop; -1: not known yet
    uint64_t dealt_ns           # when frames were dealt to its loop last

cdef struct Due:
    double at
    uint32_t entry, order       # those of one time come in the order in which they were parked
