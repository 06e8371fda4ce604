# The mapped segment: made, found, and read after the death of those who wrote it.

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBUF_WRITE, PyBuffer_Release, PyObject_GetBuffer

cdef extern from "<string.h>" nogil:
    size_t strnlen(const char*, size_t)


@cython.final
cdef class Segment:
    """The mapped segment. `buffer` is a writable, shared mapping that this object keeps alive.

    Made once by the engine (`create`), found by the others (`attach`), which raises ValueError for a file
    that is no segment, is of another version, or is shorter than it says.
    """
    cdef Py_buffer view
    cdef char* base
    cdef fq_header* header
    cdef size_t slot_bytes

    def __cinit__(self, buffer):
        PyObject_GetBuffer(buffer, &self.view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self.base = <char*>self.view.buf
        self.header = <fq_header*>self.base
        if <size_t>self.view.len < FQ_PAGE:
            raise ValueError(f"not a fastq segment: only {self.view.len} bytes")

    def __dealloc__(self):
        PyBuffer_Release(&self.view)

    @staticmethod
    def size_of(uint32_t slots, uint32_t task_bytes, uint32_t result_bytes):
        """Bytes that a segment of this shape takes."""
        return (FQ_PAGE + slots * (<size_t>FQ_PAGE + task_bytes + result_bytes)
                + FQ_BOARD_BYTES + slots * (FQ_TALLY_BYTES + FQ_BERTH_BYTES))

    @classmethod
    def create(cls, buffer, *, uint32_t slots, uint32_t task_bytes, uint32_t result_bytes,
               bytes worker not None):
        """Lay out a fresh, zeroed buffer. Ring sizes are multiples of 4096 bytes."""
        cdef Segment self = cls(buffer)
        check_rings(task_bytes, result_bytes)
        if len(worker) >= sizeof(self.header.worker):
            raise ValueError(f"worker id is longer than {sizeof(self.header.worker) - 1} bytes: {worker!r}")
        if <size_t>self.view.len < cls.size_of(slots, task_bytes, result_bytes):
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
        if self.header.magic != FQ_MAGIC:
            raise ValueError("not a fastq segment")
        if self.header.version != FQ_VERSION:
            raise ValueError(f"segment of version {self.header.version}, this is version {FQ_VERSION}")
        check_rings(self.header.task_bytes, self.header.result_bytes)
        if <size_t>self.view.len < cls.size_of(self.header.slots, self.header.task_bytes, self.header.result_bytes):
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

    cdef inline fq_board* board(self) noexcept nogil:
        return <fq_board*>(self.base + FQ_PAGE + self.header.slots * self.slot_bytes)

    cdef inline fq_tally* tally(self, uint32_t index) noexcept nogil:
        return <fq_tally*>(<char*>self.board() + FQ_BOARD_BYTES + index * FQ_TALLY_BYTES)

    cdef inline fq_berth* berths(self, uint32_t index) noexcept nogil:
        return <fq_berth*>(<char*>self.tally(self.header.slots) + index * FQ_BERTH_BYTES)

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
        cdef const char* name = self.header.worker
        return name[: strnlen(name, sizeof(self.header.worker))]

    @property
    def engine_pid(self):
        return self.header.engine_pid

    @engine_pid.setter
    def engine_pid(self, uint32_t pid):
        self.header.engine_pid = pid

    def slot_places(self, uint32_t index, uint32_t berths=0):
        """(offset, bytes) of what a slot has in the file: itself, its tally, and so many berths."""
        cdef size_t tally = <char*>self.tally(index) - self.base
        places = [(FQ_PAGE + index * self.slot_bytes, self.slot_bytes), (tally, FQ_TALLY_BYTES)]
        if berths:
            places.append((<char*>self.berths(index) - self.base, berths * sizeof(fq_berth)))
        return places

    @property
    def board_place(self):
        """(offset, bytes) of the board in the file."""
        return <char*>self.board() - self.base, FQ_BOARD_BYTES

    @property
    def events(self):
        """Whether what happens to tasks is told to monitors. The engine's to set."""
        return load32(&self.header.events) != 0

    @events.setter
    def events(self, bint told):
        store32(&self.header.events, told)

    @property
    def clock(self):
        """Lamport's clock of this worker."""
        return load64(&self.header.clock)

    def tick(self):
        """Something happens here: move the clock, and return its time."""
        return add64(&self.header.clock, 1)

    def adjust(self, uint64_t other):
        """Something from elsewhere was heard, which happened at `other`: whatever happens here is later from now on."""
        cdef uint64_t mine = load64(&self.header.clock)
        while not cas64(&self.header.clock, mine, max(mine, other) + 1):
            mine = load64(&self.header.clock)
        return max(mine, other) + 1

    def hear(self, uint32_t number):
        """The engine has got this signal: let its children know. Its signal handlers call it."""
        if number < FQ_SIGNALS:
            store32(&self.header.heard[number], self.header.heard[number] + 1)

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
            "in_flight": load32(&slot.in_flight),
        }

    def suspects(self):
        """Claim positions of late acknowledged tasks that were started and not finished, as (claim key index, batch
        number, position): what a dead worker was doing when it died. For whoever restores.

        Raises ValueError if what lies in a ring cannot be frames.
        """
        cdef list found = []
        cdef uint32_t index
        for index in range(self.header.slots):
            self.find_suspect(index, found)
        return found

    cdef int find_suspect(self, uint32_t index, list found) except -1:
        cdef fq_slot* slot = self.slot(index)
        cdef uint64_t started = slot.gate & ~FQ_RECALL
        cdef uint64_t at = slot.task_tail, head = slot.task_head
        cdef fq_frame* frame
        if slot.berths:
            return self.find_in_berths(index, found)
        if started != slot.done_count + 1:
            return 0
        while at < head and head - at <= self.header.task_bytes:
            frame = <fq_frame*>(self.tasks(slot) + at % self.header.task_bytes)
            if at % 8 or frame.size < 8 or frame.size % 8:
                raise ValueError(f"slot {index}: a frame of {frame.size} bytes at {at}")
            if frame.kind != FQ_PAD:
                if frame.kind == FQ_TASK and frame.flags & FQ_LATE and frame.number == <uint32_t>slot.done_count:
                    found.append((frame.claim_key, frame.claim_n, frame.claim_pos))
                return 0
            at += frame.size
        return 0

    cdef int find_in_berths(self, uint32_t index, list found) except -1:
        # A berth is written before its frame is started: what the gate has not passed was not.
        cdef fq_slot* slot = self.slot(index)
        cdef fq_berth* berths = self.berths(index)
        cdef uint64_t started = slot.gate & ~FQ_RECALL
        cdef uint32_t i
        for i in range(min(slot.berths, FQ_BERTHS)):
            if 0 < berths[i].frame <= started and berths[i].kind == FQ_TASK and berths[i].flags & FQ_LATE:
                found.append((berths[i].claim_key, berths[i].claim_n, berths[i].claim_pos))
        return 0

    def started_unconfirmed(self):
        """Claim positions of early acknowledged tasks that were started, and whose settlement may not have
        reached the broker: a list of (claim key index, batch number, position). For whoever restores.

        Raises ValueError if what lies in a ring cannot be frames.
        """
        cdef list found = []
        cdef uint32_t index
        for index in range(self.header.slots):
            self.find_started(index, found)
        return found

    cdef int find_started(self, uint32_t index, list found) except -1:
        # An engine may have died between any two stores, so each fact stands in one word: a frame says its own number.
        cdef fq_slot* slot = self.slot(index)
        cdef uint32_t ring = self.header.task_bytes, started = <uint32_t>(slot.gate & ~FQ_RECALL)
        cdef uint64_t at = slot.acked_head, head = slot.task_head
        cdef fq_frame* frame
        if at < head and head - at > ring:
            raise ValueError(f"slot {index}: {head - at} bytes in a ring of {ring}")
        while at < head:
            frame = <fq_frame*>(self.tasks(slot) + at % ring)
            if at % 8 or frame.size < 8 or frame.size % 8 or at % ring + frame.size > ring:
                raise ValueError(f"slot {index}: a frame of {frame.size} bytes at {at}")
            if frame.kind != FQ_PAD and frame.size < sizeof(fq_frame):
                raise ValueError(f"slot {index}: a frame of kind {frame.kind} with {frame.size} bytes at {at}")
            if frame.kind == FQ_TASK and not frame.flags & FQ_LATE and <int32_t>(started - frame.number) > 0:
                found.append((frame.claim_key, frame.claim_n, frame.claim_pos))
            at += frame.size
        return 0


cdef int check_rings(uint32_t task_bytes, uint32_t result_bytes) except -1:
    if task_bytes % FQ_PAGE or result_bytes % FQ_PAGE or not task_bytes or not result_bytes:
        raise ValueError(f"ring sizes must be multiples of {FQ_PAGE} bytes: {task_bytes}, {result_bytes}")
    return 0
