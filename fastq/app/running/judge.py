"""Speak for a task that ended without its child: lost, too late, expired, revoked, unknown. The engine has decided."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fastq import _core
from fastq.app.running.context import Request
from fastq.app.running.execute import End, Executor
from fastq.errors import ChildLost, TimeLimitExceeded
from fastq.program import Door, Verdict, split_verdict

if TYPE_CHECKING:
    from fastq.app.task import BaseTask

logger = logging.getLogger("fastq.task")


class Judge:
    """Carries out verdict frames, with the means of the executor."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def run(self, port: Door) -> None:
        """Store the state, tell the application, and end the frame."""
        verdict, raw = split_verdict(port.payload())
        late = bool(port.flags & _core.LATE)
        opened = self.executor.open(raw, late=late)
        if opened is not None:
            self.carry_out(verdict, *opened, raw=raw, late=late)

    def carry_out(
        self, verdict: Verdict, task: BaseTask[Any, Any], request: Request, *, raw: bytes, late: bool
    ) -> None:
        """The same for a message that has been opened."""
        kind = verdict.kind
        if kind in ("expired", "revoked", "terminated"):
            self.executor.revoked(verdict, task, request, raw=raw, late=late)
        elif kind == "cancelled":
            self.executor.say("task-cancelled", task, request)
            self.executor.settle("requeue", raw=raw, late=late)
        elif kind in ("unknown", "invalid"):
            logger.error("Message %s was refused: %s", request.id, verdict.reason)
            letter = self.executor.letters.letter(raw, "undecodable", verdict.reason)
            self.executor.settle_task(task, request, "reject", raw=raw, late=late, letter=letter)
        else:
            self._failed(verdict, task, request, raw=raw, late=late)

    def _failed(self, verdict: Verdict, task: BaseTask[Any, Any], request: Request, *, raw: bytes, late: bool) -> None:
        fate = self._fate(verdict, task)
        if verdict.kind == "lost" and fate == "requeue" and late:
            # It runs again, so this was no end: whoever waits for it goes on waiting.
            logger.error("Task %s[%s] runs again: %s", task.name, request.id, verdict.reason)
            self.executor.say("task-rejected", task, request, requeue=True)
            self.executor.settle(fate, raw=raw, late=late)
            return
        if verdict.kind == "timeout":
            error: Exception = TimeLimitExceeded(f"the hard time limit of {verdict.limit_s:g} s was exceeded")
        else:
            error = ChildLost(verdict.reason)
        poison = verdict.kind == "poison"
        end = End(state="FAILURE", error=error, traceback=f"{type(error).__name__}: {error}\n")
        end, stored = self.executor.ended(task, request, end)
        self.executor.tell_failure(task, request, end)
        letter = self.executor.letters.poisoned(raw, verdict) if poison and not verdict.put_aside else None
        self.executor.settle_task(task, request, fate, raw=raw, late=late, stored=stored, letter=letter)

    def _fate(self, verdict: Verdict, task: BaseTask[Any, Any]) -> str:
        own, conf = task.options, self.executor.app.conf
        if verdict.kind == "lost":
            again = conf.task_reject_on_worker_lost if own.reject_on_worker_lost is None else own.reject_on_worker_lost
            return "requeue" if again else "ack"
        return "ack" if verdict.kind == "poison" else self.executor._after_failure(task)
