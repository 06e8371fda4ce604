# Where everything lies in the shared segment. Offsets stand here and nowhere else.
#
# A segment is one file, mapped by engine, nursery and children:
#
#     header (one page) | slot 0 | slot 1 | ... | board | tally 0 | tally 1 | ... | berths 0 | berths 1 | ...
#     slot: fq_slot (one page) | task ring (engine -> child) | result ring (child -> engine)
#     board: what the engine counts; tally: what the children of a slot, one after the other, have counted
#     berths: what a child that runs coroutines has in flight, one cell each; of other children never touched
#
# Each word has one writer, `gate` excepted, and words with different writers never share a cache line.
# Positions count bytes (or frames) ever written and never go back; position % ring size is the place.
#
# The file outlives its processes on purpose. Whoever restores a dead worker's claims reads from it which
# tasks had been started, so that early acknowledged ones are not run twice.

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memmove, memset

import os as _os

cdef extern from *:
    """
    #include <stdint.h>
    #define FQ_MAGIC 0x31716573747361ffull
    #define FQ_VERSION 4u
    #define FQ_PAGE 4096u
    #define FQ_LINE __attribute__((aligned(64)))

    /* The gate's top bit: the engine is taking back what has not been started. */
    #define FQ_RECALL 0x8000000000000000ull
    /* The top bit of `soft_target`: it is the memory limit that is to interrupt the frame. */
    #define FQ_MEMORY 0x8000000000000000ull
    /* The top bit of a berth's `wish`: the soft limit is to interrupt the task. Without it: cancel. */
    #define FQ_SOFTLY 0x8000000000000000ull

    enum { FQ_TASK = 1, FQ_VERDICT = 2, FQ_VOID = 3, FQ_PAD = 4 };
    enum { FQ_LATE = 1, FQ_SIDE = 2, FQ_ODD = 4, FQ_UNTOLD = 8, FQ_PACKED = 16 };
    enum { FQ_OUTCOME = 1, FQ_STORE = 2, FQ_EVENT = 3 };
    enum { FQ_FREE = 0, FQ_BOOTING = 1, FQ_READY = 2, FQ_RETIRING = 3 };
    /* What an engine that sleeps wants to be woken for. */
    enum { FQ_AWAKE = 0, FQ_WAKE_ANY = 1, FQ_WAKE_HUNGRY = 2 };
    /* How a child sleeps: not at all, in futex(2), in its event loop with an eventfd(2). */
    enum { FQ_UP = 0, FQ_IN_FUTEX = 1, FQ_IN_LOOP = 2 };
    /* Tasks that one child may have in flight at most; bytes of an id that a berth shows. */
    enum { FQ_BERTHS = 1024, FQ_ID = 56 };
    /* Signals that are counted: those below this number. */
    enum { FQ_SIGNALS = 32 };
    /* What the engine wants of a child: nothing, that it leaves after its task, that it ends by a signal it is sent. */
    enum { FQ_STAY = 0, FQ_LEAVE = 1, FQ_END = 2 };

    /* Counters: how many tasks and queues have a row of their own (row 0: all others), bytes of a name, claim lists'
       keys that have a row, ways in which a task ends in a child, verdicts, steps of the histograms, figures. */
    enum { FQ_TASK_ROWS = 201, FQ_QUEUE_ROWS = 65, FQ_NAME = 256, FQ_KEY_ROWS = 1024, FQ_ENDS = 6, FQ_VERDICTS = 9,
           FQ_RUN_STEPS = 17, FQ_WAIT_STEPS = 14, FQ_FIGURES = 64 };
    enum { FQ_SUCCEEDED = 0, FQ_FAILED = 1, FQ_RETRIED = 2, FQ_IGNORED = 3, FQ_REJECTED = 4, FQ_DISCARDED = 5 };

    typedef struct {
        uint64_t magic;
        uint32_t version, slots, task_bytes, result_bytes, engine_pid, reserved;
        char worker[256];
        uint32_t engine_wait FQ_LINE;      /* both: FQ_AWAKE, FQ_WAKE_ANY, FQ_WAKE_HUNGRY */
        uint32_t events FQ_LINE;           /* the engine's: 1 while what happens to tasks is told to monitors */
        uint64_t clock FQ_LINE;            /* both, by atomic additions: Lamport's clock of this worker */
        uint32_t heard[FQ_SIGNALS] FQ_LINE; /* the engine's: how often it has got each signal */
    } fq_header;

    typedef struct {
        /* the engine's */
        uint64_t task_head FQ_LINE;        /* bytes written to the task ring */
        uint64_t task_count;               /* frames written, voids counted, pads not */
        uint64_t acked_head;               /* bytes whose settlement the broker has confirmed: free for the engine */
        uint64_t acked_count;              /* frames likewise */
        uint64_t soft_target;              /* 1 + number of the frame that a limit is to interrupt; FQ_MEMORY */
        uint64_t result_tail;              /* bytes read from the result ring */
        uint32_t command;                  /* FQ_STAY, FQ_LEAVE, FQ_END */
        uint32_t berths;                   /* tasks that this child may have in flight; 0: one, and no berths */
        uint64_t wishes;                   /* how often a wish has been written to one of its berths */
        /* compare-and-swap by both: frames started, and FQ_RECALL */
        uint64_t gate FQ_LINE;
        /* the child's */
        uint64_t task_tail FQ_LINE;        /* bytes of finished frames */
        uint64_t done_count;               /* frames finished */
        uint64_t started_ns;               /* CLOCK_MONOTONIC when the current task began; 0: none runs */
        uint64_t result_head;              /* bytes written to the result ring */
        uint32_t state, pid;
        uint64_t executed;                 /* tasks run, voids and verdicts not counted */
        uint64_t busy_ns;                  /* time spent in frames, all together */
        uint32_t in_flight;                /* tasks in berths */
        uint32_t child_wait FQ_LINE;       /* both: FQ_UP, FQ_IN_FUTEX, FQ_IN_LOOP: as the child sleeps for frames */
        uint32_t result_wait FQ_LINE;      /* both: 1 while the child sleeps for room in its result ring */
        uint64_t tally_frame FQ_LINE;      /* the child's: 1 + number of the frame that is being counted, or was last */
        uint64_t tally_before;             /* ... and how many this slot's tally had counted before it */
    } fq_slot;

    /* One task in flight. The child's, but for `wish`. */
    typedef struct {
        uint64_t frame FQ_LINE;            /* 1 + number of the task's frame; 0: free. Written first and last */
        uint64_t started_ns, claim_n;
        uint32_t claim_key, claim_pos, entry, task;
        uint16_t kind, flags;
        uint16_t id_len, row;              /* the row of its task on the board */
        float soft_s, hard_s;
        uint64_t wish FQ_LINE;             /* the engine's: 1 + number of the frame that is to end, and FQ_SOFTLY */
        char id[FQ_ID] FQ_LINE;
    } fq_berth;

    /* A tally is written by the one child that has the slot, and never cleared. */
    typedef struct {
        uint64_t ends[FQ_ENDS], spent_ns, steps[FQ_RUN_STEPS];
    } fq_run_row;

    typedef struct {
        uint64_t count, waited_ns, steps[FQ_WAIT_STEPS];
    } fq_wait_row;

    typedef struct {
        fq_run_row tasks[FQ_TASK_ROWS];
        fq_wait_row queues[FQ_QUEUE_ROWS];
    } fq_tally;

    typedef struct {
        uint64_t claimed, settled, length, looked_ns;
    } fq_queue_row;

    /* The engine's, all of it. */
    typedef struct {
        uint64_t figures[FQ_FIGURES];
        uint64_t verdicts[FQ_TASK_ROWS][FQ_VERDICTS];
        uint64_t for_slot[FQ_TASK_ROWS];   /* 1 + how many wait for a slot; 0: nobody looks */
        fq_queue_row queues[FQ_QUEUE_ROWS];
        uint32_t task_rows, queue_rows;    /* rows that have a name */
        uint8_t key_rows[FQ_KEY_ROWS];     /* the row of each claim list's key */
        char task_names[FQ_TASK_ROWS][FQ_NAME];
        char queue_names[FQ_QUEUE_ROWS][FQ_NAME];
    } fq_board;

    #define FQ_PAGES(type) ((sizeof(type) + FQ_PAGE - 1) / FQ_PAGE * FQ_PAGE)
    #define FQ_BOARD_BYTES FQ_PAGES(fq_board)
    #define FQ_TALLY_BYTES FQ_PAGES(fq_tally)
    #define FQ_BERTH_BYTES ((FQ_BERTHS * sizeof(fq_berth) + FQ_PAGE - 1) / FQ_PAGE * FQ_PAGE)

    typedef struct {
        uint32_t size;                     /* whole frame, a multiple of 8 */
        uint16_t kind, flags;
        uint32_t entry;                    /* the ledger's index: comes back with the outcome */
        uint32_t task;                     /* index into the program's task table, UINT32_MAX: unknown */
        uint32_t claim_key, claim_pos;     /* which claim list, and where in it: for whoever restores */
        uint64_t claim_n;
        double expires;                    /* unix time; 0: never */
        double soft_s, hard_s;             /* time limits in seconds; 0: none */
        uint32_t id_at, id_len, body_at, body_len;   /* spans of a plain message, from the payload's first byte */
        uint32_t payload_len;
        uint32_t number;                   /* of the frame in this ring, its lowest 32 bits */
        uint64_t since_ns;                 /* CLOCK_MONOTONIC when it could first have been started */
    } fq_frame;

    typedef struct {
        uint32_t size;
        uint16_t kind, flags;
        uint32_t entry;
        uint32_t outcome;                  /* ACK, REJECT, REQUEUE, DEAD */
        uint64_t number;                   /* of the task frame that it answers */
        uint32_t commands;                 /* RESP commands (or events) in the payload */
        uint32_t payload_len;
    } fq_result;

    _Static_assert(sizeof(fq_frame) == 88, "frame header");
    _Static_assert(sizeof(fq_result) == 32, "result header");
    _Static_assert(sizeof(fq_berth) == 192, "a berth");
    _Static_assert(sizeof(fq_slot) <= FQ_PAGE && sizeof(fq_header) <= FQ_PAGE, "one page each");
    """
    ctypedef struct fq_header:
        uint64_t magic
        uint32_t version, slots, task_bytes, result_bytes, engine_pid
        char worker[256]
        uint32_t engine_wait, events
        uint64_t clock
        uint32_t heard[32]
    ctypedef struct fq_slot:
        uint64_t task_head, task_count, acked_head, acked_count, soft_target, result_tail
        uint32_t command, berths
        uint64_t wishes
        uint64_t gate
        uint64_t task_tail, done_count, started_ns, result_head
        uint32_t state, pid
        uint64_t executed, busy_ns
        uint32_t in_flight
        uint32_t child_wait, result_wait
        uint64_t tally_frame, tally_before
    ctypedef struct fq_berth:
        uint64_t frame, started_ns, claim_n
        uint32_t claim_key, claim_pos, entry, task
        uint16_t kind, flags, id_len, row
        float soft_s, hard_s
        uint64_t wish
        char id[56]
    ctypedef struct fq_run_row:
        uint64_t ends[6]
        uint64_t spent_ns
        uint64_t steps[17]
    ctypedef struct fq_wait_row:
        uint64_t count, waited_ns
        uint64_t steps[14]
    ctypedef struct fq_tally:
        fq_run_row tasks[201]
        fq_wait_row queues[65]
    ctypedef struct fq_queue_row:
        uint64_t claimed, settled, length, looked_ns
    ctypedef struct fq_board:
        uint64_t figures[64]
        uint64_t verdicts[201][8]
        uint64_t for_slot[201]
        fq_queue_row queues[65]
        uint32_t task_rows, queue_rows
        uint8_t key_rows[1024]
        char task_names[201][256]
        char queue_names[65][256]
    ctypedef struct fq_frame:
        uint32_t size
        uint16_t kind, flags
        uint32_t entry, task, claim_key, claim_pos
        uint64_t claim_n
        double expires
        double soft_s, hard_s
        uint32_t id_at, id_len, body_at, body_len, payload_len, number
        uint64_t since_ns
    ctypedef struct fq_result:
        uint32_t size
        uint16_t kind, flags
        uint32_t entry, outcome
        uint64_t number
        uint32_t commands, payload_len
    uint64_t FQ_MAGIC, FQ_RECALL, FQ_MEMORY, FQ_SOFTLY
    uint32_t FQ_VERSION, FQ_PAGE
    int FQ_TASK, FQ_VERDICT, FQ_VOID, FQ_PAD
    int FQ_LATE, FQ_SIDE, FQ_ODD, FQ_UNTOLD, FQ_PACKED
    int FQ_OUTCOME, FQ_STORE, FQ_EVENT
    int FQ_FREE, FQ_BOOTING, FQ_READY, FQ_RETIRING
    uint32_t FQ_AWAKE, FQ_WAKE_ANY, FQ_WAKE_HUNGRY
    uint32_t FQ_UP, FQ_IN_FUTEX, FQ_IN_LOOP, FQ_BERTHS, FQ_ID, FQ_SIGNALS, FQ_STAY, FQ_LEAVE, FQ_END
    uint32_t FQ_TASK_ROWS, FQ_QUEUE_ROWS, FQ_NAME, FQ_KEY_ROWS
    int FQ_ENDS, FQ_VERDICTS, FQ_RUN_STEPS, FQ_WAIT_STEPS, FQ_FIGURES
    int FQ_SUCCEEDED, FQ_FAILED, FQ_RETRIED, FQ_IGNORED, FQ_REJECTED, FQ_DISCARDED
    size_t FQ_BOARD_BYTES, FQ_TALLY_BYTES, FQ_BERTH_BYTES

#: Outcomes of a delivery, as a child reports them.
ACK = 1
REJECT = 2
REQUEUE = 3
#: To the list of dead letters; the payload is what is put there.
DEAD = 4

cdef enum:
    REQUEUE_OUTCOME = 3
    DEAD_OUTCOME = 4

#: Kinds of task frames.
TASK = FQ_TASK
VERDICT = FQ_VERDICT

#: Flags of task frames: acknowledged late; payload is the path of a side file; not plain, read it by wire/; the child
#: is to tell monitors that it was received, because the engine could not; plain, and of wire "fastq".
LATE = FQ_LATE
SIDE = FQ_SIDE
ODD = FQ_ODD
UNTOLD = FQ_UNTOLD
PACKED = FQ_PACKED

#: How a task ends in a child: what `ChildPort.note_end` takes.
SUCCEEDED = FQ_SUCCEEDED
FAILED = FQ_FAILED
RETRIED = FQ_RETRIED
IGNORED = FQ_IGNORED
REJECTED = FQ_REJECTED
DISCARDED = FQ_DISCARDED

#: States of a slot.
FREE = FQ_FREE
BOOTING = FQ_BOOTING
READY = FQ_READY
RETIRING = FQ_RETIRING

NO_TASK = 0xFFFFFFFF

#: Tasks that a child may have in flight at most.
MOST_IN_FLIGHT = 1024


#: False (FASTQ_FAST=0): the scan declines everything, and plain Python reads every message.
cdef bint FAST = _os.environ.get("FASTQ_FAST", "1") != "0"


cdef inline uint32_t _align8(uint32_t n) noexcept nogil:
    return (n + 7) & ~<uint32_t>7
