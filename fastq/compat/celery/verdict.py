"""What Celery's main process does for a task that ended without its child: lost, too late, expired, revoked, unknown.

The engine knows no result store and no application. It hands such a task to a living child, which speaks for it
through Celery's own Request.
"""

from __future__ import annotations

import logging
from typing import Any

from billiard.exceptions import TimeLimitExceeded
from celery import signals
from celery.utils.log import get_logger
from kombu.utils.encoding import safe_repr

from fastq import _core
from fastq.compat.celery.aside import Aside
from fastq.compat.celery.execute import logged, lost_info, settle
from fastq.compat.celery.receive import Received, Receiver, Refused
from fastq.program import Door, Verdict, split_verdict

logger: logging.Logger = get_logger("celery.worker.request")


class Judge:
    """Carries out verdict frames in the main thread of a child."""

    def __init__(self, app: Any, *, receiver: Receiver, aside: Aside) -> None:
        self.app: Any = app
        self.receiver: Receiver = receiver
        self.aside: Aside = aside

    def run(self, port: Door) -> None:
        """Tell everybody who has to know, and end the frame."""
        verdict, raw = split_verdict(port.payload())
        late = bool(port.flags & _core.LATE)
        try:
            received = self.receiver.receive(raw)
        except Refused as refused:
            settle(port, refused.decision, raw=raw, late=late, letter=self._letter(verdict, raw, refused))
            return
        # What was acknowledged early is not acknowledged again; what never started still is to be.
        received.request.acknowledged = not late
        with logged():
            self._tell(received, verdict)
        settle(port, received.message.decision, raw=raw, late=late, letter=self._letter(verdict, raw))

    def _letter(self, verdict: Verdict, raw: bytes, refused: Refused | None = None) -> bytes | None:
        if verdict.kind == "poison":
            return None if verdict.put_aside else self.aside.poisoned(raw, verdict)
        if refused is not None:
            return self.aside.refused(raw, refused)
        return self.aside.letter(raw, "undecodable", verdict.reason) if verdict.kind == "invalid" else None

    def _tell(self, received: Received, verdict: Verdict) -> None:
        request = received.request
        if verdict.kind == "lost":
            request.on_failure(lost_info(verdict.reason))
        elif verdict.kind == "poison":
            fail_for_good(received, verdict.reason)
        elif verdict.kind == "timeout":
            request.on_timeout(False, _shortest(verdict.limit_s))
            _log_limit(_shortest(verdict.limit_s))
        elif verdict.kind == "terminated":
            request._announce_revoked("terminated", True, verdict.signal_number, False)
        elif verdict.kind == "cancelled":
            self._cancel(received)
        elif verdict.kind in ("expired", "revoked"):
            self._discard(request, verdict)
        else:
            # The engine could not read it, or did not know the task; this process can, and does.
            logger.error("Message %s was refused: %s", request.id, verdict.reason)
            received.message.reject()

    @staticmethod
    def _cancel(received: Received) -> None:
        # Acknowledged early, it cannot run again, and its state says RETRY all the same, as with Celery. Acknowledged
        # late, its message goes back.
        late = bool(received.task.acks_late)
        received.request._announce_cancelled(emit_retry=not late)
        if late:
            received.message.requeue()

    @staticmethod
    def _discard(request: Any, verdict: Verdict) -> None:
        expired = verdict.kind == "expired"
        logger.info("Discarding revoked task: %s[%s]%s", request.name, request.id, verdict.reason)
        request._announce_revoked(verdict.kind, False, None, expired)


def fail_for_good(received: Received, reason: str) -> None:
    """What `Request.on_failure` does for a lost worker whose message does not come back."""
    request, task, einfo = received.request, received.task, lost_info(reason)
    error = einfo.exception
    error = getattr(error, "exc", error)
    logger.error("Task %s[%s] was put aside: %s", request.name, request.id, reason)
    task.backend.mark_as_failure(request.id, error, request=request._context, store_result=request.store_errors)
    signals.task_failure.send(
        sender=task,
        task_id=request.id,
        exception=error,
        args=request.args,
        kwargs=request.kwargs,
        traceback=einfo.traceback,
        einfo=einfo,
    )
    request.send_event("task-failed", exception=safe_repr(error), traceback=einfo.traceback)
    received.message.ack()


def _log_limit(limit_s: float) -> None:
    """What the callback of Celery's pool logs besides; agents that watch the log make an error of it."""
    try:
        raise TimeLimitExceeded(limit_s)
    except TimeLimitExceeded as error:
        logger.error("Task handler raised error: %r", error, exc_info=True)


def _shortest(limit_s: float) -> float | int:
    # Limits travel as floats; Celery shows a limit of 2 as 2, not 2.0.
    return int(limit_s) if limit_s == int(limit_s) else limit_s
