# Where everything lies in the shared segment. Offsets stand here and nowhere else.
#
# A segment is one file, mapped by engine, nursery and children:
#
#     header (one page) | slot 0 | slot 1 | ...
#     slot: fq_slot (one page) | task ring (engine -> child) | result ring (child -> engine)
#
# Each word has one writer, `gate` excepted, and words with different writers never share a cache line.
# Positions count bytes (or frames) ever written and never go back; position % ring size is the place.
#
# The file outlives its processes on purpose. Whoever restores a dead worker's claims reads from it which
# tasks had been started, so that early acknowledged ones are not run twice.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memmove, memset

import os as _os
import tempfile as _tempfile

cdef extern from *:
    """
    #include <stdint.h>
    #define FQ_MAGIC 0x31716573747361ffull
    #define FQ_VERSION 1u
    #define FQ_PAGE 4096u
    #define FQ_LINE __attribute__((aligned(64)))

    /* The gate's top bit: the engine is taking back what has not been started. */
    #define FQ_RECALL 0x8000000000000000ull

    enum { FQ_TASK = 1, FQ_VERDICT = 2, FQ_VOID = 3, FQ_PAD = 4 };
    enum { FQ_LATE = 1, FQ_SIDE = 2, FQ_ODD = 4 };
    enum { FQ_OUTCOME = 1, FQ_STORE = 2 };
    enum { FQ_FREE = 0, FQ_BOOTING = 1, FQ_READY = 2, FQ_RETIRING = 3 };
    /* What an engine that sleeps wants to be woken for. */
    enum { FQ_AWAKE = 0, FQ_WAKE_ANY = 1, FQ_WAKE_HUNGRY = 2 };

    typedef struct {
        uint64_t magic;
        uint32_t version, slots, task_bytes, result_bytes, engine_pid, reserved;
        char worker[256];
        uint32_t engine_wait FQ_LINE;      /* both: FQ_AWAKE, FQ_WAKE_ANY, FQ_WAKE_HUNGRY */
    } fq_header;

    typedef struct {
        /* the engine's */
        uint64_t task_head FQ_LINE;        /* bytes written to the task ring */
        uint64_t task_count;               /* frames written, voids counted, pads not */
        uint64_t acked_head;               /* bytes whose settlement the broker has confirmed: free for the engine */
        uint64_t acked_count;              /* frames likewise */
        uint64_t soft_target;              /* 1 + number of the frame that a soft time limit is to interrupt */
        uint64_t result_tail;              /* bytes read from the result ring */
        uint32_t command;                  /* 1: leave after the current task */
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
        uint32_t child_wait FQ_LINE;       /* both: 1 while the child sleeps on its task ring */
        uint32_t result_wait FQ_LINE;      /* both: 1 while the child sleeps for room in its result ring */
    } fq_slot;

    typedef struct {
        uint32_t size;                     /* whole frame, a multiple of 8 */
        uint16_t kind, flags;
        uint32_t entry;                    /* the ledger's index: comes back with the outcome */
        uint32_t task;                     /* index into the program's task table, UINT32_MAX: unknown */
        uint32_t claim_key, claim_pos;     /* which claim list, and where in it: for whoever restores */
        uint64_t claim_n;
        double expires;                    /* unix time; 0: never */
        double soft_s, hard_s;             /* time limits in seconds; 0: none */
        uint32_t id_at, id_len, body_at, body_len;   /* spans of a plain envelope, from the payload's first byte */
        uint32_t payload_len, reserved;
    } fq_frame;

    typedef struct {
        uint32_t size;
        uint16_t kind, flags;
        uint32_t entry;
        uint32_t outcome;                  /* ACK, REJECT, REQUEUE */
        uint64_t number;                   /* of the task frame that it answers */
        uint32_t commands;                 /* RESP commands in the payload */
        uint32_t payload_len;
    } fq_result;

    _Static_assert(sizeof(fq_frame) == 80, "frame header");
    _Static_assert(sizeof(fq_result) == 32, "result header");
    _Static_assert(sizeof(fq_slot) <= FQ_PAGE && sizeof(fq_header) <= FQ_PAGE, "one page each");
    """
    ctypedef struct fq_header:
        uint64_t magic
        uint32_t version, slots, task_bytes, result_bytes, engine_pid
        char worker[256]
        uint32_t engine_wait
    ctypedef struct fq_slot:
        uint64_t task_head, task_count, acked_head, acked_count, soft_target, result_tail
        uint32_t command
        uint64_t gate
        uint64_t task_tail, done_count, started_ns, result_head
        uint32_t state, pid
        uint64_t executed, busy_ns
        uint32_t child_wait, result_wait
    ctypedef struct fq_frame:
        uint32_t size
        uint16_t kind, flags
        uint32_t entry, task, claim_key, claim_pos
        uint64_t claim_n
        double expires
        double soft_s, hard_s
        uint32_t id_at, id_len, body_at, body_len, payload_len
    ctypedef struct fq_result:
        uint32_t size
        uint16_t kind, flags
        uint32_t entry, outcome
        uint64_t number
        uint32_t commands, payload_len
    uint64_t FQ_MAGIC, FQ_RECALL
    uint32_t FQ_VERSION, FQ_PAGE
    int FQ_TASK, FQ_VERDICT, FQ_VOID, FQ_PAD
    int FQ_LATE, FQ_SIDE, FQ_ODD
    int FQ_OUTCOME, FQ_STORE
    int FQ_FREE, FQ_BOOTING, FQ_READY, FQ_RETIRING
    uint32_t FQ_AWAKE, FQ_WAKE_ANY, FQ_WAKE_HUNGRY

#: Outcomes of a delivery, as a child reports them.
ACK = 1
REJECT = 2
REQUEUE = 3

#: Kinds of task frames.
TASK = FQ_TASK
VERDICT = FQ_VERDICT

#: Flags of task frames: acknowledged late; payload is the path of a side file; not plain, read it by wire/.
LATE = FQ_LATE
SIDE = FQ_SIDE
ODD = FQ_ODD

#: States of a slot.
FREE = FQ_FREE
BOOTING = FQ_BOOTING
READY = FQ_READY
RETIRING = FQ_RETIRING

NO_TASK = 0xFFFFFFFF


#: False (FASTQ_FAST=0): the scan declines everything, and plain Python reads every message.
cdef bint FAST = _os.environ.get("FASTQ_FAST", "1") != "0"


cdef inline uint32_t _align8(uint32_t n) noexcept nogil:
    return (n + 7) & ~<uint32_t>7


cdef class Segment:
    """The mapped segment. `buffer` is a writable, shared mapping that this object keeps alive.

    Made once by the engine (`create`), found by the others (`attach`), which raises ValueError for a file
    that is no segment, is of another version, or is shorter than it says.
    """
    cdef unsigned char[::1] _view
    cdef char* base
    cdef fq_header* header
    cdef size_t slot_bytes

    def __init__(self, buffer):
        self._view = buffer
        self.base = <char*>&self._view[0]
        self.header = <fq_header*>self.base

    @staticmethod
    def size_of(uint32_t slots, uint32_t task_bytes, uint32_t result_bytes):
        """Bytes that a segment of this shape takes."""
        return FQ_PAGE + slots * <size_t>(FQ_PAGE + task_bytes + result_bytes)

    @classmethod
    def create(cls, buffer, *, uint32_t slots, uint32_t task_bytes, uint32_t result_bytes, bytes worker):
        """Lay out a fresh, zeroed buffer. Ring sizes are multiples of 4096 bytes."""
        cdef Segment self = cls(buffer)
        if task_bytes % FQ_PAGE or result_bytes % FQ_PAGE or not task_bytes or not result_bytes:
            raise ValueError(f"ring sizes must be multiples of {FQ_PAGE} bytes: {task_bytes}, {result_bytes}")
        if len(worker) >= sizeof(self.header.worker):
            raise ValueError(f"worker id is longer than {sizeof(self.header.worker) - 1} bytes: {worker!r}")
        if <size_t>self._view.shape[0] < cls.size_of(slots, task_bytes, result_bytes):
            raise ValueError("buffer is smaller than the segment")
        self.header.version = FQ_VERSION
        self.header.slots = slots
        self.header.task_bytes = task_bytes
        self.header.result_bytes = result_bytes
        memcpy(self.header.worker, <char*>worker, len(worker))
        self.slot_bytes = FQ_PAGE + task_bytes + result_bytes
        self.header.magic = FQ_MAGIC
        return self

    @classmethod
    def attach(cls, buffer):
        """Read the layout of a segment that somebody else made."""
        cdef Segment self = cls(buffer)
        cdef size_t there = <size_t>self._view.shape[0]
        if there < FQ_PAGE or self.header.magic != FQ_MAGIC:
            raise ValueError("not a fastq segment")
        if self.header.version != FQ_VERSION:
            raise ValueError(f"segment of version {self.header.version}, this is version {FQ_VERSION}")
        if there < cls.size_of(self.header.slots, self.header.task_bytes, self.header.result_bytes):
            raise ValueError("segment file is truncated")
        self.slot_bytes = FQ_PAGE + self.header.task_bytes + self.header.result_bytes
        return self

    cdef fq_slot* slot(self, uint32_t index) except NULL:
        if index >= self.header.slots:
            raise IndexError(f"slot {index} of {self.header.slots}")
        return <fq_slot*>(self.base + FQ_PAGE + index * self.slot_bytes)

    cdef inline char* tasks(self, fq_slot* slot) noexcept nogil:
        return <char*>slot + FQ_PAGE

    cdef inline char* results(self, fq_slot* slot) noexcept nogil:
        return <char*>slot + FQ_PAGE + self.header.task_bytes

    @property
    def slots(self):
        return self.header.slots

    @property
    def task_bytes(self):
        return self.header.task_bytes

    @property
    def result_bytes(self):
        return self.header.result_bytes

    @property
    def worker(self):
        return bytes(self.header.worker)

    @property
    def engine_pid(self):
        return self.header.engine_pid

    @engine_pid.setter
    def engine_pid(self, uint32_t pid):
        self.header.engine_pid = pid

    def slot_place(self, uint32_t index):
        """(offset, bytes) of a slot in the file."""
        return FQ_PAGE + index * self.slot_bytes, self.slot_bytes

    def clear_slot(self, uint32_t index):
        """Make a slot free for a new child. The engine's; nobody may be using it."""
        memset(self.slot(index), 0, sizeof(fq_slot))

    def state(self, uint32_t index):
        return load32(&self.slot(index).state)

    def pid(self, uint32_t index):
        return load32(&self.slot(index).pid)

    def peek(self, uint32_t index):
        """What a slot's counters say now, as a dict of named numbers."""
        cdef fq_slot* slot = self.slot(index)
        return {
            "state": load32(&slot.state),
            "pid": load32(&slot.pid),
            "written": load64(&slot.task_count),
            "started": load64(&slot.gate) & ~FQ_RECALL,
            "done": load64(&slot.done_count),
            "acked": load64(&slot.acked_count),
            "started_ns": load64(&slot.started_ns),
            "executed": load64(&slot.executed),
            "busy_ns": load64(&slot.busy_ns),
        }

    def started_unconfirmed(self):
        """Claim positions of early acknowledged tasks that were started, and whose settlement may not have
        reached the broker: a list of (claim key index, batch number, position). For whoever restores."""
        cdef list found = []
        cdef fq_slot* slot
        cdef fq_frame* frame
        cdef uint64_t at, number, started, head
        cdef uint32_t index
        for index in range(self.header.slots):
            slot = self.slot(index)
            at, number = slot.acked_head, slot.acked_count
            started, head = slot.gate & ~FQ_RECALL, slot.task_head
            while at < head:
                frame = <fq_frame*>(self.tasks(slot) + at % self.header.task_bytes)
                if frame.size < 8 or frame.size % 8 or frame.size > self.header.task_bytes:
                    raise ValueError(f"slot {index}: a frame of {frame.size} bytes at {at}")
                if frame.kind != FQ_PAD:
                    if number < started and frame.kind == FQ_TASK and not frame.flags & FQ_LATE:
                        found.append((frame.claim_key, frame.claim_n, frame.claim_pos))
                    number += 1
                at += frame.size
        return found
