# Plain tasks of an event loop: opened and ended as the runner does it, and in between nobody's here.

cdef class LoopRunner(Runner):
    """Opens the messages of plain tasks for an event loop, and writes their results. It has no current task: whatever
    needs one (signals, STARTED, events) is left to Python."""

    def open(self, Flight flight not None):
        """(PlainTask, request, arguments, keyword arguments) of a frame; None: it is Python's."""
        cdef Head head
        cdef PlainTask plain
        cdef Carried carried
        if self.prerun.receivers or self.postrun.receivers or self.success.receivers:
            return None
        plain = self.admit(&flight.head, <const char*>flight.data, &head)
        if plain is None or plain.tracked or self.tells(plain):
            return None
        carried = self.carry(<const char*>flight.data, &flight.head)
        request = plain.request_class.__new__(plain.request_class)
        request._carried = carried
        return plain, request, tuple(carried.args), carried.kwargs

    def write_success(self, Flight flight not None, PlainTask plain not None, request, value):
        """End a task that `open` has opened, with its result. Raises, and has ended nothing, if that cannot be kept."""
        cdef Head head
        cdef bint kept = False, read
        cdef const char* data = <const char*>flight.data
        if flight.flags & FQ_PACKED:
            read = read_packed_head(data, flight.head.payload_len, &head)
        else:
            read = read_head(data, flight.head.payload_len, &head)
        if read and not self.ignores(plain, &head):
            kept = self.keep_result(plain, request, request._carried, value, &head)
        if plain.log_success is not None:
            plain.log_success(request, value, (monotonic_ns() - flight.started_ns) * 1e-9)
        if kept:
            flight.end(ACK_OUTCOME, 2, self.result.resp.data, self.result.resp.size)
        else:
            flight.end(ACK_OUTCOME, 0, b"", 0)
        self.forget_size()
