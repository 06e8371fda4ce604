"""Speak for a task that ended without its child: lost, too late, expired, revoked, unknown. The engine has decided."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from fastq import frames
from fastq.app.running.closing import Closing
from fastq.app.running.context import Request
from fastq.app.running.execute import End, Executor
from fastq.app.running.slots import put_aside
from fastq.errors import ChildLost, TimeLimitExceeded
from fastq.program import Door, Verdict, split_verdict

if TYPE_CHECKING:
    from fastq.app.task import BaseTask

logger: logging.Logger = logging.getLogger("fastq.task")


class Judge:
    """Carries out verdict frames, with the means of the executor."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def run(self, port: Door) -> None:
        """Store the state, send callbacks, tell the application, and end the frame. Blocks."""
        self.hear(port).carry_out()

    def hear(self, port: Door) -> Closing:
        """What is to be done."""
        verdict, raw = split_verdict(port.payload())
        late = bool(port.flags & frames.LATE)
        opened = self.executor.open(raw, late=late)
        if isinstance(opened, Closing):
            return opened
        task, request = opened
        asks = verdict.kind == "lost" and task.options.max_running is not None
        return Closing(asks or bool(request.embed), partial(self.carry_out, verdict, task, request, raw=raw, late=late))

    def carry_out(
        self, verdict: Verdict, task: BaseTask[Any, Any], request: Request, *, raw: bytes, late: bool
    ) -> Callable[[], None]:
        """Send callbacks, which blocks; what is returned does not: it tells the application and ends the frame."""
        kind = verdict.kind
        if kind in ("expired", "revoked", "terminated"):
            return self.executor.revoked(verdict, task, request, raw=raw, late=late)
        if kind == "cancelled":
            return partial(self._give_back, task, request, raw=raw, late=late)
        if kind in ("unknown", "invalid"):
            return partial(self._refuse, verdict, task, request, raw=raw, late=late)
        return self._failed(verdict, task, request, raw=raw, late=late)

    def _give_back(self, task: BaseTask[Any, Any], request: Request, *, raw: bytes, late: bool) -> None:
        self.executor.say("task-cancelled", task, request)
        self.executor.settle("requeue", raw=raw, late=late)

    def _refuse(self, verdict: Verdict, task: BaseTask[Any, Any], request: Request, *, raw: bytes, late: bool) -> None:
        logger.error("Message %s was refused: %s", request.id, verdict.reason)
        letter = self.executor.letters.letter(raw, "undecodable", verdict.reason)
        self.executor.settle_task(task, request, "reject", raw=raw, late=late, letter=letter)

    def _run_again(
        self, verdict: Verdict, task: BaseTask[Any, Any], request: Request, *, raw: bytes, late: bool
    ) -> None:
        # It is no end: whoever waits for it goes on waiting.
        logger.error("Task %s[%s] runs again: %s", task.name, request.id, verdict.reason)
        self.executor.say("task-rejected", task, request, requeue=True)
        self.executor.settle("requeue", raw=raw, late=late)

    def _failed(
        self, verdict: Verdict, task: BaseTask[Any, Any], request: Request, *, raw: bytes, late: bool
    ) -> Callable[[], None]:
        fate = self._fate(verdict, task)
        if verdict.kind == "lost" and task.options.max_running is not None and self._waits(task, request):
            return partial(put_aside, self.executor, raw=raw, late=late)
        if verdict.kind == "lost" and fate == "requeue" and late:
            return partial(self._run_again, verdict, task, request, raw=raw, late=late)
        if verdict.kind == "timeout":
            error: Exception = TimeLimitExceeded(f"the hard time limit of {verdict.limit_s:g} s was exceeded")
        else:
            error = ChildLost(verdict.reason)
        end = End(state="FAILURE", error=error, traceback=f"{type(error).__name__}: {error}\n")
        end, stored = self.executor.ended(task, request, end)
        poison = verdict.kind == "poison" and not verdict.put_aside

        def close() -> None:
            self.executor.tell_failure(task, request, end)
            letter = self.executor.letters.poisoned(raw, verdict) if poison else None
            self.executor.settle_task(task, request, fate, raw=raw, late=late, stored=stored, letter=letter)

        return close

    def _waits(self, task: BaseTask[Any, Any], request: Request) -> bool:
        return self.executor.slots.elsewhere(self.executor, task, request)

    def _fate(self, verdict: Verdict, task: BaseTask[Any, Any]) -> str:
        own, conf = task.options, self.executor.app.conf
        if verdict.kind == "lost":
            again = conf.task_reject_on_worker_lost if own.reject_on_worker_lost is None else own.reject_on_worker_lost
            return "requeue" if again else "ack"
        return "ack" if verdict.kind == "poison" else self.executor._after_failure(task)
