# What the runner knows of tasks: callables, the stacks that hold task and request, and what a request is made of.

from cpython.dict cimport PyDict_GetItemWithError, PyDict_SetItem
from cpython.object cimport PyObject

cdef extern from *:
    """
    /* As list.pop() of a list that is not empty, but it keeps its memory for the next append. */
    static inline void fq_drop_last(PyObject *list) {
        Py_ssize_t n = PyList_GET_SIZE(list) - 1;
        PyObject *item = PyList_GET_ITEM(list, n);
        Py_SET_SIZE((PyVarObject *)list, n);
        Py_DECREF(item);
    }
    """
    void fq_drop_last(list)

cdef enum:
    # How a task's result is kept.
    ELSEWHERE = 0               # by its own callable
    IN_RING = 1                 # as RESP commands, JSON made here


cdef class Stack:
    """One of Celery's stacks (task, request) in the main thread, pushed and popped without its Python code.

    Celery keeps a list per thread in a dict, makes both at the first push and drops them at the last pop. This leaves
    them there, the list empty, which is the same to whoever looks: nothing is on the stack. Where somebody left
    something on the stack, or it is of another class, its own methods do it.
    """
    cdef object push_method, pop_method, ident
    cdef dict storage, entry
    cdef list items
    cdef bint direct

    def __init__(self, stack, dict storage, ident):
        self.push_method, self.pop_method = stack.push, stack.pop
        self.storage, self.ident = storage, ident
        self.renew()

    cdef renew(self):
        self.items = []
        self.entry = {"stack": self.items}

    cdef int push(self, item) except -1:
        self.direct = self.storage is not None and self.open_entry()
        if self.direct:
            self.items.append(item)
        else:
            self.push_method(item)
        return 0

    cdef bint open_entry(self) except *:
        # Our empty list is this thread's stack, from now on if there was none. False: somebody has something there.
        cdef PyObject* there = PyDict_GetItemWithError(self.storage, self.ident)
        if there == <PyObject*>self.entry:
            return not self.items and PyDict_GetItemWithError(self.entry, "stack") == <PyObject*>self.items
        if there != NULL:
            return False
        if self.items or PyDict_GetItemWithError(self.entry, "stack") != <PyObject*>self.items:
            self.renew()
        PyDict_SetItem(self.storage, self.ident, self.entry)
        return True

    cdef int pop(self) except -1:
        if not self.direct:
            self.pop_method()
            return 0
        if self.items:
            fq_drop_last(self.items)
        return 0


cdef class Carried:
    """What a request of a plain task is made of, until somebody asks for more of it than this."""
    cdef readonly object id
    cdef readonly list args
    cdef readonly dict kwargs
    cdef readonly bytes envelope
    cdef readonly object hostname


cdef class PlainTask:
    """What the runner has to know of one task. Made in Python, once per task and process."""
    cdef readonly object task, fun
    cdef readonly str name
    cdef object request_class, store, follow, cleanup, log_success, show
    cdef Stack requests
    cdef int keep
    cdef bint tracked

    def __init__(self, task, *, fun, request_class, Stack requests, store, follow, cleanup=None, log_success=None,
                 show=None, bint in_ring=False, bint tracked=False):
        self.task, self.name, self.fun = task, task.name, fun
        self.request_class, self.requests = request_class, requests
        self.store, self.follow, self.cleanup, self.log_success = store, follow, cleanup, log_success
        self.show = show                # makes the text of a result for monitors; None: they are told nothing
        self.keep = IN_RING if in_ring else ELSEWHERE
        self.tracked = tracked and in_ring
