# Run plain tasks in the child: frame to arguments, call, result into the ring, without Python in between.
#
# Semantics are those of the slow way (Celery's own tracer, compat/celery/execute.py), which every message may take. So
# this part declines whatever it does not know, before the task has begun; and hands over whatever goes wrong, with the
# exception as the current one, to Python (`on_error`), which ends the frame. Nothing is half done here.
#
# It knows of Celery only what `PlainTask` says: callables, prefixes, and two stacks that hold task and request.

from cpython.object cimport PyObject

cdef extern from *:
    """
    /* As PyObject_Call, but Cython does not look at the error: no frame of ours gets into the traceback. */
    static inline PyObject *fq_call(PyObject *fun, PyObject *args, PyObject *kwargs) {
        return PyObject_Call(fun, args, kwargs); }

    /* The error that is set becomes the one that is being handled (sys.exc_info()); the old one is kept in `old`. */
    typedef struct { PyObject *t, *v, *tb; } fq_exc;
    #if PY_VERSION_HEX >= 0x030c0000
    static inline void fq_begin_handling(fq_exc *old) {
        PyObject *error = PyErr_GetRaisedException();
        old->v = PyErr_GetHandledException();
        PyErr_SetHandledException(error);
        Py_DECREF(error);
    }
    static inline void fq_end_handling(fq_exc *old) { PyErr_SetHandledException(old->v); Py_XDECREF(old->v); }
    #else
    static inline void fq_begin_handling(fq_exc *old) {
        PyObject *t, *v, *tb;
        PyErr_Fetch(&t, &v, &tb);
        PyErr_NormalizeException(&t, &v, &tb);
        if (tb != NULL) PyException_SetTraceback(v, tb);
        PyErr_GetExcInfo(&old->t, &old->v, &old->tb);
        PyErr_SetExcInfo(t, v, tb);
    }
    static inline void fq_end_handling(fq_exc *old) { PyErr_SetExcInfo(old->t, old->v, old->tb); }
    #endif

    /* As cls.__new__(cls), without looking `__new__` up. */
    static inline PyObject *fq_new(PyObject *cls, PyObject *no_args) {
        return ((PyTypeObject *)cls)->tp_new((PyTypeObject *)cls, no_args, NULL); }
    """
    ctypedef struct fq_exc:
        pass
    PyObject* fq_call(PyObject*, PyObject*, PyObject*)
    void fq_begin_handling(fq_exc*)
    void fq_end_handling(fq_exc*)
    object fq_new(object, tuple)
    void Py_DECREF(PyObject*)
    int PyObject_IsTrue(object) except -1

cdef enum:
    # Where a task went wrong: in itself, or in what follows its success.
    IN_TASK = 0
    AFTERWARDS = 1

    # What the runner has found for its caller.
    FOUND_NOTHING = 0
    FOUND_FRAME = 1
    FOUND_LEAVE = 2

#: Bytes of the headers of task and result frames, for tests that write them.
HEADER_SIZES = (sizeof(fq_frame), sizeof(fq_result))


cdef class Runner:
    """Runs the plain tasks of one child; `work` returns when it has found something else.

    `prepare(index)` makes the PlainTask of a task, or None for one that is always Python's.
    `on_error(plain, request, args, kwargs, late, stage)` ends a task that went wrong; the error is the current one.
    What it returns, if not None, is called when there is no current error any more.
    `unpack(body)` makes (args, kwargs) of a body of wire "fastq"; None leaves such messages to Python.
    """
    cdef ChildPort port
    cdef EventPen pen
    cdef list tasks
    cdef Stack task_stack
    cdef ResultPen result
    cdef object prepare, decode, loads, unpack, on_error, hostname
    cdef object prerun, postrun, success
    cdef readonly object announced          # id of the task that runs, if its STARTED went through the ring
    cdef readonly uint64_t executed
    cdef readonly bint interruptible
    cdef readonly uint64_t began_ns         # when the task began that runs, or ran last
    cdef uint64_t max_tasks
    cdef double idle_s
    cdef bint task_decides                  # a task that ignores results does so whatever its message says
    cdef Buffer body
    cdef list args
    cdef dict kwargs
    cdef bytes side                         # the message that runs, if it came beside the ring

    def __cinit__(self):
        self.body.data = NULL

    def __dealloc__(self):
        free(self.body.data)

    def __init__(self, ChildPort port, *, uint32_t tasks, Stack task_stack, prepare, decode, loads, encode, quote,
                 stamp, on_error, hostname, prerun, postrun, success, bytes key_prefix=b"", expires_s=None,
                 bytes guard=b"", bytes started=b"", bint task_decides=False, uint64_t max_tasks=0, double idle_s=-1.0,
                 EventPen pen=None, unpack=None, largest=LARGE_TEXT):
        self.pen, self.unpack = pen, unpack
        self.result = ResultPen(encode, quote, stamp, key_prefix=key_prefix, expires_s=expires_s, guard=guard,
                                started=started, largest=largest)
        self.port, self.task_stack, self.prepare = port, task_stack, prepare
        self.tasks = [False] * tasks        # False: not prepared yet
        self.decode, self.loads, self.on_error, self.hostname = decode, loads, on_error, hostname
        self.prerun, self.postrun, self.success = prerun, postrun, success
        self.max_tasks, self.idle_s, self.task_decides = max_tasks, idle_s, task_decides

    def count(self):
        """One more task has been executed, by Python."""
        self.executed += 1
        self.port.slot.executed += 1

    def work(self):
        """Run plain tasks. Returns 1: a frame has been started that is Python's; 2: leave; 0: nothing, come again."""
        cdef int found
        while not self.max_tasks or self.executed < self.max_tasks:
            if load32(&self.port.slot.command):
                return FOUND_LEAVE
            if not self.port.find():
                found = self.port.wait(self.idle_s)
                if found != FOUND_FRAME:
                    return found
            if not self.port.take():
                continue
            if not self.run_plain():
                return FOUND_FRAME
            self.announced = None
            self.count()
        return FOUND_NOTHING

    # ------------------------------------------------------------------ before

    cdef PlainTask plain_task(self, uint32_t index):
        cdef object found
        if index >= <uint32_t>len(self.tasks):
            return None
        found = self.tasks[index]
        if found is False:
            found = self.tasks[index] = self.prepare(index)
        return found

    cdef bint open_body(self, const char* text, uint32_t size) except *:
        # Arguments into self.args and self.kwargs; False if the body is unusual in any way.
        cdef Py_ssize_t n
        self.body.size = 0
        grow(&self.body, size + 1)
        n = fq_unbase64(text, size, self.body.data)
        if n < <Py_ssize_t>NO_CANVAS_SIZE + 7:
            return False
        if memcmp(self.body.data + n - NO_CANVAS_SIZE, NO_CANVAS, NO_CANVAS_SIZE) != 0:
            return False
        # Valid JSON that ends so has this object as its last item: cut it off, and close the array before it.
        n -= NO_CANVAS_SIZE
        if n == 7 and memcmp(self.body.data, b"[[], {}", 7) == 0:
            self.args, self.kwargs = [], {}
            return True
        self.body.data[n] = 93
        return self.decode_arguments(self.body.data[: n + 1])

    cdef bint decode_arguments(self, bytes text) except *:
        cdef object found
        try:
            found = self.loads(text) if fq_may_be_marked(<char*>text, len(text)) else self.decode(text)
        except Exception:
            # msgspec refuses what json takes: NaN, lone surrogates, numbers beyond a double.
            try:
                found = self.loads(text)
            except Exception:
                return False
        if type(found) is not list or len(<list>found) != 2:
            return False
        args, kwargs = (<list>found)[0], (<list>found)[1]
        if type(args) is not list or type(kwargs) is not dict:
            return False
        self.args, self.kwargs = args, kwargs
        return True

    cdef bint open_packed(self, const char* body, uint32_t size) except *:
        # As `open_body`. What is written like one of kombu's markers means what it means there.
        cdef object found
        if self.unpack is None or memmem(body, size, b"__type__", 8) != NULL:
            return False
        if size == 3 and memcmp(body, b"\x92\x90\x80", 3) == 0:
            self.args, self.kwargs = [], {}
            return True
        try:
            found = self.unpack(body[:size])
        except Exception:
            return False
        self.args, self.kwargs = (<tuple?>found)[0], (<tuple>found)[1]
        return True

    cdef Carried carry(self, const char* data, fq_frame* frame):
        cdef Carried carried = Carried.__new__(Carried)
        if frame.flags & FQ_PACKED:
            carried.id = text_of_id(data + frame.id_at, frame.id_len)
        else:
            carried.id = PyUnicode_DecodeASCII(data + frame.id_at, frame.id_len, NULL)
        carried.args, carried.kwargs, carried.hostname = self.args, self.kwargs, self.hostname
        # They are the task's now, and may be large: nothing here keeps them.
        self.args = self.kwargs = None
        carried.envelope = data[: frame.payload_len]
        return carried

    # ------------------------------------------------------------------ the task

    cdef bint open_side(self, fq_frame* frame, const char* data, fq_frame* opened) except *:
        # A plain message that is too large for the ring: `opened` is the frame that it would be there, of `self.side`.
        cdef Plain plain
        cdef const char* text
        if frame.kind != FQ_TASK or frame.flags & FQ_ODD:
            return False
        with open(_os.fsdecode(data[: frame.payload_len]), "rb") as file:
            self.side = file.read()
        text = <char*>self.side
        if not FAST or not scan_message(text, len(self.side), &plain):
            return False
        memcpy(opened, frame, sizeof(fq_frame))
        opened.flags = (frame.flags & ~FQ_SIDE) | (FQ_PACKED if plain.packed else 0)
        opened.payload_len = <uint32_t>len(self.side)
        opened.id_at, opened.id_len = <uint32_t>(plain.id.at - text), plain.id.size
        opened.body_at, opened.body_len = <uint32_t>(plain.body.at - text), plain.body.size
        return True

    cdef PlainTask admit(self, fq_frame* frame, const char* data, Head* head):
        # The task of a frame that is plain in every way, with its arguments in self.args and self.kwargs; else None.
        cdef PlainTask plain
        if frame.kind != FQ_TASK or frame.flags & (FQ_ODD | FQ_SIDE) or not frame.body_len:
            return None
        if frame.expires != 0 and unix_time() > frame.expires:
            return None
        plain = self.plain_task(frame.task)
        if plain is None:
            return None
        if frame.flags & FQ_PACKED:
            if not read_packed_head(data, frame.payload_len, head):
                return None
            return plain if self.open_packed(data + frame.body_at, frame.body_len) else None
        if not read_usual_head(data, frame, head) and not read_head(data, frame.payload_len, head):
            return None
        return plain if self.open_body(data + frame.body_at, frame.body_len) else None

    cdef bint ignores(self, PlainTask plain, Head* head) except *:
        if head.ignore_result < 0 or (self.task_decides and not head.ignore_result):
            return PyObject_IsTrue(plain.task.ignore_result)
        return head.ignore_result

    cdef int run_plain(self) except -1:
        # 1: done. 0: the frame is Python's, and nothing has been done yet.
        cdef fq_frame* frame = self.port.frame
        cdef const char* data = <const char*>frame + sizeof(fq_frame)
        cdef Head head
        cdef bint late = frame.flags & FQ_LATE, ignore
        cdef PlainTask plain
        cdef Carried carried
        cdef tuple positional
        cdef PyObject* result
        cdef fq_frame opened
        if frame.flags & FQ_SIDE and self.open_side(frame, data, &opened):
            frame, data = &opened, <char*>self.side
        plain = self.admit(frame, data, &head)
        if plain is None:
            return 0
        carried = self.carry(data, frame)
        request = fq_new(plain.request_class, ())
        request._carried = carried
        ignore = self.ignores(plain, &head)
        positional = tuple(carried.args)
        if self.tells(plain):
            self.tell_started(carried)
        self.begin(plain, request, carried, &head, ignore)
        self.interruptible = True
        result = fq_call(<PyObject*>plain.fun, <PyObject*>positional, <PyObject*>carried.kwargs)
        self.interruptible = False
        if result == NULL:
            self.hand_over(plain, request, carried, late)
            return 1
        value = <object>result
        Py_DECREF(result)
        self.succeed(plain, request, carried, value, &head, ignore, late)
        return 1

    cdef int begin(self, PlainTask plain, request, Carried carried, Head* head, bint ignore) except -1:
        self.task_stack.push(plain.task)
        plain.requests.push(request)
        self.began_ns = monotonic_ns()
        if self.prerun.receivers:
            self.prerun.send(sender=plain.task, task_id=carried.id, task=plain.task, args=carried.args,
                             kwargs=carried.kwargs)
        if plain.tracked and not ignore:
            self.announce(carried, head)
        return 0

    cdef int succeed(self, PlainTask plain, request, Carried carried, value, Head* head, bint ignore,
                     bint late) except -1:
        cdef bint kept = False, failed = False
        try:
            if type(request) is not plain.request_class and plain.follow(request, value, ignore):
                # The task looked at its request, and left something there that has to be done: it has been.
                pass
            elif not ignore:
                kept = self.keep_result(plain, request, carried, value, head)
            if kept and (self.success.receivers or self.postrun.receivers):
                # Receivers are the application's: should one of them end this process, the result is there.
                self.port.send(FQ_STORE, 0, 2, self.result.resp.data, self.result.resp.size)
                kept = False
            if self.success.receivers:
                self.success.send(sender=plain.task, result=value, runtime=self.runtime_s())
            if plain.log_success is not None:
                plain.log_success(request, value, self.runtime_s())
        except Exception:
            rest, failed = self.on_error(plain, request, carried.args, carried.kwargs, late, AFTERWARDS), True
        if failed:
            return self.call_rest(rest)
        self.end_task(plain, request, carried, value)
        if self.tells(plain):
            self.tell_succeeded(plain, carried, value)
        return self.end_frame(late, kept)

    cdef inline double runtime_s(self) noexcept:
        return (monotonic_ns() - self.began_ns) * 1e-9

    cdef int hand_over(self, PlainTask plain, request, Carried carried, bint late) except -1:
        cdef fq_exc old
        cdef tuple facts = (plain, request, carried.args, carried.kwargs, late, IN_TASK)
        cdef PyObject* done
        fq_begin_handling(&old)
        # Not in a `try`: Cython's own saving and restoring would undo the end of the handling.
        done = fq_call(<PyObject*>self.on_error, <PyObject*>facts, NULL)
        fq_end_handling(&old)
        if done == NULL:
            return -1
        rest = <object>done
        Py_DECREF(done)
        return self.call_rest(rest)

    cdef int call_rest(self, rest) except -1:
        if rest is not None:
            rest()
        return 0

    cdef int end_task(self, PlainTask plain, request, Carried carried, value) except -1:
        try:
            if self.postrun.receivers:
                self.postrun.send(sender=plain.task, task_id=carried.id, task=plain.task, args=carried.args,
                                  kwargs=carried.kwargs, retval=value, state="SUCCESS")
        finally:
            self.pop(plain)
        return 0

    def pop(self, PlainTask plain):
        """Take task and request off their stacks, and clean up as Celery does after each task."""
        self.task_stack.pop()
        plain.requests.pop()
        if plain.cleanup is not None:
            plain.cleanup()

    cdef int end_frame(self, bint late, bint kept) except -1:
        if kept:
            self.port.send(FQ_OUTCOME, ACK, 2, self.result.resp.data, self.result.resp.size)
        elif late or self.port.later.size:
            self.port.send(FQ_OUTCOME, ACK, 0, b"", 0)
        self.port.send_later()
        self.port.leave()
        self.port.tell()
        self.forget_size()
        return 0

    cdef void forget_size(self) noexcept:
        self.side = None
        self.body.size = 0
        shrink(&self.body)
        self.result.forget_size()

    # ------------------------------------------------------------------ what is told

    cdef inline bint tells(self, PlainTask plain):
        return self.pen is not None and self.pen.telling() and plain.show is not None

    cdef int tell_started(self, Carried carried) except -1:
        cdef timespec now
        cdef Buffer* b = &self.result.json
        b.size = 0
        self.pen.begin(b, &now)
        put_uuid(b, carried)
        self.pen.end(b, &now, b"task-started", 12)
        return self.port.send(FQ_EVENT, 0, 1, b.data, b.size)

    cdef int tell_succeeded(self, PlainTask plain, Carried carried, value) except -1:
        cdef timespec now
        cdef Buffer* b = &self.port.later
        # The text first: it may be long in the making, and it is the application's.
        self.result.write_shown(value, plain.show)
        self.port.next_event()
        self.pen.begin(b, &now)
        put_uuid(b, carried)
        put(b, b', "result": ', 12)
        put(b, self.result.json.data, self.result.json.size)
        put(b, b', "runtime": ', 13)
        put_runtime(b, monotonic_ns() - self.began_ns)
        return self.pen.end(b, &now, b"task-succeeded", 14)

    cdef int announce(self, Carried carried, Head* head) except -1:
        # STARTED, unless this or a later attempt has ended by the time it is stored.
        self.result.write_started(carried, head)
        self.port.send(FQ_STORE, 0, 1, self.result.resp.data, self.result.resp.size)
        self.port.tell()
        self.announced = carried.id
        return 0

    cdef bint keep_result(self, PlainTask plain, request, Carried carried, value, Head* head) except *:
        # True: the commands are written. False: somebody else has stored it.
        if plain.keep != IN_RING or not self.result.write_success(request, value, carried, head):
            plain.store(request, value)
            return False
        return True


cdef inline int put_uuid(Buffer* b, Carried carried) except -1:
    put(b, b', "uuid": "', 11)
    put(b, fq_ascii(carried.id), fq_length(carried.id))
    return put(b, b'"', 1)
