"""The full way to run a task: Celery's Request, Celery's tracer, and what Celery's main process does with the end.

This way is open to every message. The fast way (`fast.py`) takes the plain ones and has to do the same.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from billiard.common import human_status, terminate_handler_fired
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery import signals, states
from celery.app import trace as celery_trace
from celery.exceptions import WorkerLostError
from celery.utils.log import get_logger
from celery.worker.request import Request

from fastq import _core
from fastq.compat.celery.aside import Aside
from fastq.compat.celery.events import send_received
from fastq.compat.celery.receive import Received, Receiver, Refused
from fastq.compat.celery.request_class import is_revoked, tell_accepted, tell_soft_limit
from fastq.program import Door
from fastq.wire.redelivery import mark_redelivered

logger: logging.Logger = get_logger("celery.worker.request")

_OUTCOMES = {"ack": _core.ACK, "reject": _core.REJECT, "requeue": _core.REQUEUE}

#: What is counted for a state in which a task has not succeeded; for any other: FAILED.
_ENDS = {states.RETRY: _core.RETRIED, states.IGNORED: _core.IGNORED, states.REJECTED: _core.REJECTED}


class Leave(SystemExit):
    """The task asked this process to end with `code`; `decision` is what becomes of its message."""

    def __init__(self, code: Any, decision: str | None) -> None:
        super().__init__(code)
        self.decision = decision


@contextlib.contextmanager
def logged() -> Iterator[None]:
    """What goes wrong while others are told (a result store that refuses, a receiver of our stand-ins) is logged.

    The task is over by then; the next ones must not suffer for it. The words are those of Celery's pool.
    """
    try:
        yield
    except Exception as error:
        logger.error("Pool callback raised exception: %r", error, exc_info=True)


class Executor:
    """Carries out started frames, one at a time, in the main thread of a child."""

    def __init__(self, app: Any, *, receiver: Receiver, aside: Aside, soft_time_limit_s: float | None = None) -> None:
        self.app: Any = app
        self.receiver: Receiver = receiver
        self.aside: Aside = aside
        self.soft_time_limit_s: float | None = soft_time_limit_s
        #: The dead letter of the message that runs, if there is to be one.
        self._letter: bytes | None = None
        #: True once the soft limit of the task that runs has hit.
        self.limit_hit: bool = False

    def run(self, port: Door) -> None:
        """Run the task of the current frame and end the frame.

        Raises Leave, with the frame ended, if the task asked the process to end. Any other SystemExit comes from a
        handler that is ending this process: the frame stays unfinished, and the engine takes care of the task.
        """
        raw, late = port.payload(), bool(port.flags & _core.LATE)
        untold, self._letter = bool(port.flags & _core.UNTOLD), None
        try:
            decision = self._carry_out(port, raw, late=late, untold=untold)
        except Leave as leave:
            settle(port, leave.decision, raw=raw, late=late)
            raise
        settle(port, decision, raw=raw, late=late, letter=self._letter)

    def _carry_out(self, port: Door, raw: bytes, *, late: bool, untold: bool) -> str | None:
        port.note_end(_core.DISCARDED)
        try:
            received = self.receiver.receive(raw)
        except Refused as refused:
            self._letter = self.aside.refused(raw, refused)
            return refused.decision
        with logged():
            if not self._is_over(received):
                port.note_end(_core.FAILED)
                if untold:
                    send_received(received.request)
                self.trace(received, port=port, raw=raw, late=late)
        return received.message.decision

    def _is_over(self, received: Received) -> bool:
        request = received.request
        if is_revoked(request):
            return True
        if signals.task_received.receivers:
            signals.task_received.send(sender=self.receiver.sender, request=request)
        return False

    def trace(self, received: Received, *, port: Door, raw: bytes, late: bool) -> None:
        """Run it through the tracer, and let the request decide what becomes of the message."""
        request = received.request
        # The engine has acknowledged it already, as Celery's main process does on acceptance.
        request.acknowledged = not late
        with logged():
            tell_accepted(request)
        try:
            retval, info, runtime, text = self._call(received)
        except (SystemExit, KeyboardInterrupt) as error:
            if terminate_handler_fired():
                # Our own handler is ending this process: the task is not over, and will count as lost.
                raise
            request.on_failure(left_info(request, error))
            raise Leave(code_of(error), received.message.decision) from error
        except MemoryError as error:
            fail(received, error)
        except Exception:
            request.on_failure(ExceptionInfo())
        else:
            port.note_end(end_of(info))
            if getattr(info, "state", "") == states.FAILURE:
                self._letter = self.aside.failed(raw, received.task, info.retval)
            conclude(received, retval=retval, info=info, runtime=runtime, text=text)

    def _call(self, received: Received) -> Any:
        request, task = received.request, received.task
        if not hasattr(received.kwargs, "items"):
            # Celery's tracer refuses it with a warning that does not say which message it was.
            logger.error("Message %s was refused: its keyword arguments are no mapping", request.id)
        fields = request.request_dict
        fields.update(
            {"args": received.args, "kwargs": received.kwargs, "hostname": request.hostname, "is_eager": False},
            **received.embed or {},
        )
        self.limit_hit = False
        try:
            return tracer(self.app, task, self.receiver.hostname)(request.id, received.args, received.kwargs, fields)
        finally:
            if self.limit_hit:
                with logged():
                    tell_soft_limit(request, self.soft_time_limit_s)


def end_of(info: Any) -> int:
    """How a task is counted of which a tracer says this: nothing of one that has succeeded."""
    return _ENDS.get(getattr(info, "state", ""), _core.FAILED) if info else _core.SUCCEEDED


def tracer(app: Any, task: Any, hostname: str) -> Any:
    """The task's tracer, built at first use, by whatever stands in for `build_tracer` by then."""
    if task.__trace__ is None:
        task.__trace__ = celery_trace.build_tracer(task.name, task, app.loader, hostname, app=app)
    return task.__trace__


def conclude(received: Received, *, retval: Any, info: Any, runtime: Any, text: Any) -> None:
    """What Celery's main process does when its child reports the end of a task."""
    if info and isinstance(getattr(retval, "exception", None), MemoryError):
        # Celery's main process ends over this one. The failure is stored and told already.
        _acknowledge_failure(received)
        return
    if info:
        unwrap(retval)
    # Celery's worker puts a class of its own on top of the application's, so that its `on_success` is never called.
    Request.on_success(received.request, (1, retval, runtime) if info else (0, text, runtime))


def unwrap(einfo: Any) -> None:
    """What remains of an ExceptionInfo's exception after its way through the pipe of Celery's pool: the bare one."""
    if isinstance(einfo.exception, ExceptionWithTraceback):
        einfo.exception = einfo.exception.exc


def fail(received: Received, error: MemoryError) -> None:
    """Record a failure that Celery's main process would end over."""
    request, einfo = received.request, ExceptionInfo()
    logger.error("Task handler raised error: %r", error, exc_info=einfo.exc_info)
    received.task.backend.mark_as_failure(
        request.id, error, einfo.traceback, request=request._context, store_result=request.store_errors
    )
    _acknowledge_failure(received)


def _acknowledge_failure(received: Received) -> None:
    if not received.task.acks_late:
        return
    if acks_failure(received.task):
        received.request.acknowledge()
    else:
        received.request.reject(requeue=False)


def code_of(error: BaseException) -> Any:
    """What the process exits with when a task raised SystemExit or KeyboardInterrupt."""
    return error.code if isinstance(error, SystemExit) else 1


def left_info(request: Any, error: BaseException) -> Any:
    """What Celery's Request is to be told of a task that asked its process to end; the error is being handled."""
    if hasattr(request, "_worker_lost_info"):
        return ExceptionInfo()
    # Before Celery 5.7 the pool made a lost worker of it.
    code = code_of(error)
    return lost_info(f"Worker exited prematurely: {human_status(code if isinstance(code, int) else int(bool(code)))}.")


def lost_info(reason: str) -> Any:
    """The ExceptionInfo of a WorkerLostError."""
    try:
        raise WorkerLostError(reason)
    except WorkerLostError:
        return ExceptionInfo()


def acks_failure(task: Any) -> bool:
    """Whether a failed, late acknowledged task is acknowledged; one setting with time limits before Celery 5.7."""
    found = getattr(task, "acks_on_failure", None)
    return bool(task.acks_on_failure_or_timeout if found is None else found)


def settle(port: Door, decision: str | None, *, raw: bytes, late: bool, letter: bytes | None = None) -> None:
    """End the current frame. An early acknowledged message is settled already, whatever was decided.

    With a dead letter, the message is put aside in the same step, unless it is to come back.
    """
    if letter is not None and decision != "requeue":
        port.outcome(_core.DEAD, 0, letter)
        return
    if not late:
        port.finish()
        return
    data = mark_redelivered(raw, None) if decision == "requeue" else b""
    # A request that decides nothing would leave its message with a Celery worker until that one ends.
    port.outcome(_OUTCOMES[decision or "ack"], 0, data)
