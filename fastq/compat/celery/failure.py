"""The rest of Celery's tracer for a plain task that went wrong.

The compiled runner calls this with the error as the one being handled (`sys.exc_info()`), task and request still on
their stacks, and the frame open. Retry, Ignore, Reject and failures are told by Celery's own TraceInfo.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import msgspec
from billiard.common import terminate_handler_fired
from billiard.einfo import ExceptionInfo
from celery import VERSION, signals, states
from celery.app import trace as celery_trace
from celery.exceptions import Ignore, Reject, Retry, TimeLimitExceeded
from celery.utils.serialization import get_pickled_exception
from kombu.exceptions import EncodeError, OperationalError
from kombu.utils.encoding import safe_repr

from fastq import _core, clock
from fastq.compat.celery.aside import Aside
from fastq.compat.celery.execute import (
    Leave,
    acks_failure,
    code_of,
    conclude,
    end_of,
    fail,
    left_info,
    logged,
    settle,
    unwrap,
)
from fastq.compat.celery.receive import Received, Receiver
from fastq.program import Door

#: Where it went wrong: in the task itself, or in what follows a success.
IN_TASK, AFTERWARDS = 0, 1

#: What makes a failure of a success: a result that cannot be encoded; since 5.7, a link that cannot be sent.
_REFUSED = (EncodeError, OperationalError) if VERSION >= (5, 7) else (EncodeError,)


class _Ended(msgspec.Struct):
    """What the tracer knows when a task has ended."""

    state: str | None = None
    retval: Any = None
    #: TraceInfo, and ExceptionInfo.
    info: Any = None
    einfo: Any = None
    #: SystemExit or KeyboardInterrupt: the process is asked to end.
    leaving: BaseException | None = None


class Failure:
    """Called by the runner; ends the frame, or returns what ends it once there is no current error any more."""

    def __init__(self, *, port: Door, receiver: Receiver, aside: Aside, open_rings: Callable[..., None]) -> None:
        self.port: Door = port
        self.receiver: Receiver = receiver
        self.aside: Aside = aside
        self.open_rings: Callable[..., None] = open_rings
        #: The runner that calls this; set once it exists.
        self.runner: Any = None

    def __call__(
        self, plain: Any, request: Any, args: Any, kwargs: Any, late: bool, stage: int
    ) -> Callable[[], None] | None:
        # Kept for the decision on the message: a filled request has let go of it.
        raw = self.port.payload()
        self.open_rings(True, self._began())
        try:
            try:
                ended = self._end(plain, request, args, kwargs, stage)
            except Exception:
                # The store refuses the failure as well: what the tracer lets out, Celery's main process deals with.
                ended = _Ended(einfo=ExceptionInfo())
            return self._settle(plain.task, request.id, ended, raw=raw, late=late)
        finally:
            self.open_rings(False)

    def _began(self) -> float:
        return clock.now() - (clock.monotonic_ns() - int(self.runner.began_ns)) / 1e9

    # ------------------------------------------------------------------------ as in trace_task

    def _end(self, plain: Any, request: Any, args: Any, kwargs: Any, stage: int) -> _Ended:
        task, ended = plain.task, _Ended()
        try:
            try:
                self._handle(task, request, ended, stage)
            finally:
                self._post(plain, request, args, kwargs, ended)
        except (MemoryError, Reject) as error:
            ended.retval, ended.einfo = error, ExceptionInfo()
        except Exception as error:
            self._internal(task, request, args, kwargs, error, ended)
        return ended

    @staticmethod
    def _handle(task: Any, request: Any, ended: _Ended, stage: int) -> None:
        error = sys.exc_info()[1]
        _give_traceback(error)
        if not isinstance(error, Exception):
            ended.leaving, ended.einfo = error, ExceptionInfo()
        elif stage == AFTERWARDS and not isinstance(error, _REFUSED):
            raise error
        elif isinstance(error, Reject):
            ended.info, ended.einfo = celery_trace.TraceInfo(states.REJECTED, error), ExceptionInfo(internal=True)
            ended.info.handle_reject(task, request)
        elif isinstance(error, Ignore):
            ended.info, ended.einfo = celery_trace.TraceInfo(states.IGNORED, error), ExceptionInfo(internal=True)
            ended.info.handle_ignore(task, request)
        else:
            retried = isinstance(error, Retry)
            ended.info = celery_trace.TraceInfo(states.RETRY if retried else states.FAILURE, error)
            ended.einfo = ended.info.handle_error_state(task, request, eager=False, call_errbacks=not retried)
        if ended.info is not None:
            ended.state, ended.retval = ended.info.state, ended.info.retval
            celery_trace.traceback_clear(error)

    def _post(self, plain: Any, request: Any, args: Any, kwargs: Any, ended: _Ended) -> None:
        try:
            if signals.task_postrun.receivers:
                signals.task_postrun.send(
                    sender=plain.task,
                    task_id=request.id,
                    task=plain.task,
                    args=args,
                    kwargs=kwargs,
                    retval=ended.retval,
                    state=ended.state,
                )
        finally:
            self.runner.pop(plain)

    @staticmethod
    def _internal(task: Any, request: Any, args: Any, kwargs: Any, error: Exception, ended: _Ended) -> None:
        fields = dict(vars(request))
        celery_trace._signal_internal_error(task, request.id, args, kwargs, fields, error)
        ended.einfo = celery_trace.report_internal_error(task, error)
        ended.info = celery_trace.TraceInfo(states.FAILURE, error)
        ended.info.handle_error_state(task, request, eager=False)

    # ------------------------------------------------------------------------ as in Celery's main process

    def _settle(self, task: Any, task_id: str, ended: _Ended, *, raw: bytes, late: bool) -> Callable[[], None] | None:
        if ended.leaving is not None and terminate_handler_fired():
            raise ended.leaving
        self.port.note_end(end_of(ended.info) if ended.info is not None else _core.FAILED)
        decision = self._quick_decision(task, ended, late=late)
        if decision is None:
            if ended.info is not None:
                return functools.partial(self._settle_later, ended, raw=raw, late=late)
            decision = self._celerys_decision(ended, raw=raw, late=late)
        elif self.receiver.eventer.enabled and task.send_events:
            self._send_events(task_id, ended, decision=decision)
        letter = self.aside.failed(raw, task, ended.retval) if ended.state == states.FAILURE else None
        settle(self.port, decision, raw=raw, late=late, letter=letter)
        if ended.leaving is not None:
            raise Leave(code_of(ended.leaving), decision)
        return None

    def _settle_later(self, ended: _Ended, *, raw: bytes, late: bool) -> None:
        # Celery's main process has no error at hand when it sends task_failure for a rejected message. Agents look.
        self.open_rings(True, self._began())
        try:
            settle(self.port, self._celerys_decision(ended, raw=raw, late=late), raw=raw, late=late)
        finally:
            self.open_rings(False)

    @staticmethod
    def _quick_decision(task: Any, ended: _Ended, *, late: bool) -> str | None:
        """The usual ends, for which Celery's Request would only look at two flags."""
        if ended.info is None or isinstance(ended.retval, (Reject, MemoryError, TimeLimitExceeded)):
            return None
        if ended.state in (states.RETRY, states.IGNORED) or not late:
            return "ack"
        if ended.state == states.FAILURE:
            return "ack" if acks_failure(task) or not task.acks_late else "reject"
        return None

    def _send_events(self, task_id: str, ended: _Ended, *, decision: str) -> None:
        """What Celery's Request tells monitors of the usual ends."""
        send, einfo = self.receiver.eventer.send, ended.einfo
        if decision == "reject":
            send("task-rejected", uuid=task_id, requeue=False)
        if ended.state == states.RETRY:
            unwrap(einfo)
            send("task-retried", uuid=task_id, exception=safe_repr(einfo.exception.exc), traceback=einfo.traceback)
        elif ended.state == states.FAILURE:
            unwrap(einfo)
            exception = safe_repr(get_pickled_exception(einfo.exception))
            send("task-failed", uuid=task_id, exception=exception, traceback=einfo.traceback)

    def _celerys_decision(self, ended: _Ended, *, raw: bytes, late: bool) -> str | None:
        received = self.receiver.receive(raw)
        received.request.acknowledged = not late
        with logged():
            self._tell(received, ended)
        return received.message.decision

    @staticmethod
    def _tell(received: Received, ended: _Ended) -> None:
        if ended.info is None and isinstance(ended.retval, MemoryError):
            fail(received, ended.retval)
        elif ended.leaving is not None:
            received.request.on_failure(left_info(received.request, ended.leaving))
        elif ended.info is None:
            received.request.on_failure(ended.einfo)
        else:
            conclude(received, retval=ended.einfo, info=ended.info, runtime=0.0, text=None)


def _give_traceback(error: BaseException | None) -> None:
    # A call that does not fit the signature fails without a frame, and Celery's ExceptionInfo needs one.
    if error is not None and error.__traceback__ is None:
        try:
            raise error
        except BaseException:
            pass
