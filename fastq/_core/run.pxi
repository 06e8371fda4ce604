# Run plain tasks in the child: frame to arguments, call, result into the ring, without Python in between.
#
# Semantics are those of the slow way (Celery's own tracer, compat/celery/execute.py), which every message may take. So
# this part declines whatever it does not know, before the task has begun; and hands over whatever goes wrong, with the
# exception as the current one, to Python (`on_error`), which ends the frame. Nothing is half done here.
#
# It knows of Celery only what `PlainTask` says: callables, prefixes, and two stacks that hold task and request.

from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.mem cimport PyMem_Free
from cpython.object cimport PyObject
from libc.string cimport strlen

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

    static inline int fq_is_ascii(PyObject *s) { return PyUnicode_IS_COMPACT_ASCII(s); }
    static inline const char *fq_ascii(PyObject *s) { return (const char *)PyUnicode_DATA(s); }
    static inline Py_ssize_t fq_length(PyObject *s) { return PyUnicode_GET_LENGTH(s); }
    """
    ctypedef struct fq_exc:
        pass
    PyObject* fq_call(PyObject*, PyObject*, PyObject*)
    void fq_begin_handling(fq_exc*)
    void fq_end_handling(fq_exc*)
    object fq_new(object, tuple)
    bint fq_is_ascii(object)
    const char* fq_ascii(object)
    Py_ssize_t fq_length(object)
    void Py_DECREF(PyObject*)
    int Py_DTSF_ADD_DOT_0
    char* PyOS_double_to_string(double, char, int, int, int*) except NULL
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

#: A result text above this is left to Python, which knows the store's own limit.
cdef enum:
    LARGE_TEXT = 64 * 1024 * 1024


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
    cdef object prepare, decode, loads, unpack, encode, quote, stamp, on_error, hostname
    cdef object prerun, postrun, success
    cdef bytes key_prefix, set_head, set_tail, guard, started, expires
    cdef readonly object announced          # id of the task that runs, if its STARTED went through the ring
    cdef readonly uint64_t executed
    cdef readonly bint interruptible
    cdef readonly uint64_t began_ns         # when the task began that runs, or ran last
    cdef uint64_t max_tasks
    cdef size_t largest                     # bytes of a result text that is stored from here
    cdef double idle_s
    cdef bint task_decides                  # a task that ignores results does so whatever its message says
    cdef Buffer body, json, resp
    cdef list args
    cdef dict kwargs
    cdef bytes side                         # the message that runs, if it came beside the ring
    cdef bytes second_text, zone_text
    cdef long second

    def __cinit__(self):
        self.body.data = self.json.data = self.resp.data = NULL
        self.second = -1

    def __dealloc__(self):
        free(self.body.data)
        free(self.json.data)
        free(self.resp.data)

    def __init__(self, ChildPort port, *, uint32_t tasks, Stack task_stack, prepare, decode, loads, encode, quote,
                 stamp, on_error, hostname, prerun, postrun, success, bytes key_prefix=b"", expires_s=None,
                 bytes guard=b"", bytes started=b"", bint task_decides=False, uint64_t max_tasks=0, double idle_s=-1.0,
                 EventPen pen=None, unpack=None, largest=LARGE_TEXT):
        self.pen, self.unpack, self.largest = pen, unpack, min(largest, LARGE_TEXT)
        self.port, self.task_stack, self.prepare = port, task_stack, prepare
        self.tasks = [False] * tasks        # False: not prepared yet
        self.decode, self.loads, self.encode, self.quote, self.stamp = decode, loads, encode, quote, stamp
        self.on_error, self.hostname = on_error, hostname
        self.prerun, self.postrun, self.success = prerun, postrun, success
        self.key_prefix, self.max_tasks, self.idle_s = key_prefix, max_tasks, idle_s
        self.task_decides = task_decides
        self.guard, self.started, self.expires = guard, started, b"%d" % (expires_s or 0)
        if expires_s:
            self.set_head = b"*4\r\n$5\r\nSETEX\r\n"
            self.set_tail = b"$%d\r\n%d\r\n" % (len(self.expires), expires_s)
        else:
            self.set_head, self.set_tail = b"*3\r\n$3\r\nSET\r\n", b""

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
                self.port.send(FQ_STORE, 0, 2, self.resp.data, self.resp.size)
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
            self.port.send(FQ_OUTCOME, ACK, 2, self.resp.data, self.resp.size)
        elif late or self.port.later.size:
            self.port.send(FQ_OUTCOME, ACK, 0, b"", 0)
        self.port.send_later()
        self.port.leave()
        self.port.tell()
        self.forget_size()
        return 0

    cdef void forget_size(self) noexcept:
        self.side = None
        self.body.size = self.json.size = self.resp.size = 0
        shrink(&self.body)
        shrink(&self.json)
        shrink(&self.resp)

    # ------------------------------------------------------------------ events

    cdef inline bint tells(self, PlainTask plain):
        return self.pen is not None and self.pen.telling() and plain.show is not None

    cdef int tell_started(self, Carried carried) except -1:
        cdef timespec now
        self.json.size = 0
        self.pen.begin(&self.json, &now)
        self.put_uuid(&self.json, carried)
        self.pen.end(&self.json, &now, b"task-started", 12)
        return self.port.send(FQ_EVENT, 0, 1, self.json.data, self.json.size)

    cdef int tell_succeeded(self, PlainTask plain, Carried carried, value) except -1:
        cdef timespec now
        cdef Buffer* b = &self.port.later
        # The text first: it may be long in the making, and it is the application's.
        self.json.size = 0
        self.put_shown(plain, value)
        self.port.next_event()
        self.pen.begin(b, &now)
        self.put_uuid(b, carried)
        put(b, b', "result": ', 12)
        put(b, self.json.data, self.json.size)
        put(b, b', "runtime": ', 13)
        put_runtime(b, monotonic_ns() - self.began_ns)
        return self.pen.end(b, &now, b"task-succeeded", 14)

    cdef inline int put_uuid(self, Buffer* b, Carried carried) except -1:
        put(b, b', "uuid": "', 11)
        put(b, fq_ascii(carried.id), fq_length(carried.id))
        return put(b, b'"', 1)

    cdef int put_shown(self, PlainTask plain, value) except -1:
        if value is None:
            return put(&self.json, b'"None"', 6)
        if value is True:
            return put(&self.json, b'"True"', 6)
        if value is False:
            return put(&self.json, b'"False"', 7)
        return self.put_quoted(plain.show(value))

    # ------------------------------------------------------------------ results

    cdef int announce(self, Carried carried, Head* head) except -1:
        # STARTED, unless this or a later attempt has ended by the time it is stored.
        cdef Buffer* b = &self.resp
        self.json.size = 0
        put(&self.json, b'{"status": "STARTED", "result": ', 32)
        put(&self.json, <char*>self.started, len(self.started))
        put(&self.json, b', "traceback": null, "children": [], "date_done": null', 54)
        self.put_origin(carried, head)
        b.size = 0
        put(b, <char*>self.guard, len(self.guard))
        self.put_key(fq_ascii(carried.id), fq_length(carried.id))
        put_bulk(b, self.json.data, self.json.size)
        put_bulk(b, <char*>self.expires, len(self.expires))
        self.json.size = 0
        self.put_now()
        put_bulk(b, self.json.data, self.json.size)
        self.port.send(FQ_STORE, 0, 1, b.data, b.size)
        self.port.tell()
        self.announced = carried.id
        return 0

    cdef int put_origin(self, Carried carried, Head* head) except -1:
        # What every result ends with.
        self.put_span(b', "group_id": "', 15, &head.group)
        self.put_span(b', "parent_id": "', 16, &head.parent)
        put(&self.json, b', "task_id": "', 14)
        put(&self.json, fq_ascii(carried.id), fq_length(carried.id))
        return put(&self.json, b'"}', 2)

    cdef bint keep_result(self, PlainTask plain, request, Carried carried, value, Head* head) except *:
        # True: the commands are in self.resp. False: somebody else has stored it.
        if plain.keep != IN_RING or not self.put_result(request, value):
            plain.store(request, value)
            return False
        self.put_origin(carried, head)
        self.put_commands(fq_ascii(carried.id), fq_length(carried.id))
        return True

    cdef bint put_result(self, request, value) except *:
        # The result as Celery's JSON, up to its date. False: too large for this way.
        self.json.size = 0
        put(&self.json, b'{"status": "SUCCESS", "result": ', 32)
        self.put_value(value)
        if self.json.size > self.largest:
            return False
        put(&self.json, b', "traceback": null, "children": ', 33)
        children = request._children
        if children:
            self.put_text(self.encode([child.as_tuple() for child in children]))
        else:
            put(&self.json, b"[]", 2)
        put(&self.json, b', "date_done": "', 16)
        self.put_now()
        put(&self.json, b'"', 1)
        return True

    cdef inline int put_span(self, const char* name, size_t size, Span* span) except -1:
        if span.size:
            put(&self.json, name, size)
            put(&self.json, span.at, span.size)
            put(&self.json, b'"', 1)
        return 0

    cdef int put_value(self, value) except -1:
        # What json.dumps would write, for the plain types; everything else by the encoder of Python's side.
        cdef object kind = type(value)
        cdef char number[24]
        cdef int overflow = 0
        cdef int64_t whole
        if value is None:
            return put(&self.json, b"null", 4)
        if value is True:
            return put(&self.json, b"true", 4)
        if value is False:
            return put(&self.json, b"false", 5)
        if kind is int:
            whole = PyLong_AsLongLongAndOverflow(value, &overflow)
            # The least of them has no positive counterpart to take digits from.
            if not overflow and whole > -0x7fffffffffffffff:
                return put(&self.json, number, digits(number, whole))
        elif kind is float:
            return self.put_float(PyFloat_AS_DOUBLE(value))
        elif kind is str:
            return self.put_quoted(value)
        return self.put_text(self.encode(value))

    cdef int put_float(self, double value) except -1:
        cdef char* text
        if value != value:
            return put(&self.json, b"NaN", 3)
        if value - value != 0:
            return put(&self.json, b"Infinity", 8) if value > 0 else put(&self.json, b"-Infinity", 9)
        text = PyOS_double_to_string(value, b"r", 0, Py_DTSF_ADD_DOT_0, NULL)
        try:
            return put(&self.json, text, strlen(text))
        finally:
            PyMem_Free(text)

    cdef int put_quoted(self, str value) except -1:
        cdef const char* p
        cdef Py_ssize_t i, n
        if fq_is_ascii(value):
            p, n = fq_ascii(value), fq_length(value)
            i = 0
            while i < n and 32 <= p[i] <= 126 and p[i] != 34 and p[i] != 92:
                i += 1
            if i == n:
                put(&self.json, b'"', 1)
                put(&self.json, p, n)
                return put(&self.json, b'"', 1)
        return self.put_text(self.quote(value))

    cdef int put_text(self, str text) except -1:
        if not fq_is_ascii(text):
            raise TypeError("JSON of Celery's encoder is ASCII")
        return put(&self.json, fq_ascii(text), fq_length(text))

    cdef int put_now(self) except -1:
        # As app.now().isoformat(): the part above the second, and the zone, once per second from Python.
        cdef timespec now
        cdef char text[8]
        cdef long micro
        cdef int i
        clock_gettime(CLOCK_REALTIME, &now)
        if now.tv_sec != self.second:
            self.second_text, self.zone_text = self.stamp(now.tv_sec)
            self.second = now.tv_sec
        put(&self.json, <char*>self.second_text, len(self.second_text))
        micro = now.tv_nsec // 1000
        if micro:
            text[0] = 46
            for i in range(6, 0, -1):
                text[i] = <char>(48 + micro % 10)
                micro //= 10
            put(&self.json, text, 7)
        return put(&self.json, <char*>self.zone_text, len(self.zone_text))

    cdef int put_commands(self, const char* id_text, size_t id_size) except -1:
        cdef Buffer* b = &self.resp
        b.size = 0
        grow(b, 2 * self.json.size + 512)
        put(b, <char*>self.set_head, len(self.set_head))
        self.put_key(id_text, id_size)
        put(b, <char*>self.set_tail, len(self.set_tail))
        put_bulk(b, self.json.data, self.json.size)
        put(b, b"*3\r\n$7\r\nPUBLISH\r\n", 17)
        self.put_key(id_text, id_size)
        return put_bulk(b, self.json.data, self.json.size)

    cdef int put_key(self, const char* id_text, size_t id_size) except -1:
        put_count(&self.resp, 36, len(self.key_prefix) + id_size)
        put(&self.resp, <char*>self.key_prefix, len(self.key_prefix))
        put(&self.resp, id_text, id_size)
        return put(&self.resp, b"\r\n", 2)
