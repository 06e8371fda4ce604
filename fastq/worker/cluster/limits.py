"""Change rate and time limits of tasks in a running worker. New limits hold for what has not been started."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fastq import _core, clock
from fastq.program import ProgramInfo, TaskInfo
from fastq.worker.pipeline.admit import Admission
from fastq.worker.pipeline.broadcast import Broadcasts
from fastq.worker.pipeline.rate import interval_s
from fastq.worker.processes.children import Children
from fastq.worker.processes.running import message


class Limits:
    """The program's table of tasks, and what was made of it."""

    def __init__(
        self,
        program: ProgramInfo,
        *,
        ledger: _core.Ledger,
        children: Children,
        admission: Admission,
        broadcasts: Broadcasts,
    ) -> None:
        self._program, self._ledger, self._children, self._admission = program, ledger, children, admission
        self._broadcasts = broadcasts

    @property
    def tasks(self) -> Sequence[TaskInfo]:
        return self._admission.tasks

    def number(self, task: str) -> int | None:
        """A task's number, None if nobody registered the name."""
        known = enumerate(self._admission.tasks)
        return next((number for number, each in known if each.name == task and not each.gone), None)

    def set_rate(self, number: int, rate: str | float | None) -> None:
        """Raises SettingError for what is no rate."""
        every_s = interval_s(rate)
        released: set[int] = set()
        if not self._program.disable_rate_limits:
            released = self._admission.buckets.limit(number, every_s)
        self._replace(number, rate_limit=str(rate) if rate is not None else None)
        self._ledger.hasten(released, clock.now())
        self._broadcasts.hasten(released)
        self._admit_again(number)

    def set_time(self, number: int, *, soft: float | None, hard: float | None) -> None:
        """Seconds, None or 0 for the worker's own limit."""
        soft, hard = soft or self._program.soft_time_limit, hard or self._program.time_limit
        self._replace(number, soft_time_limit=soft, time_limit=hard)
        self._admit_again(number)

    def _replace(self, number: int, **fields: object) -> None:
        tasks = list(self._admission.tasks)
        tasks[number] = msgspec.structs.replace(tasks[number], **fields)
        self._admission.know(tasks)

    def _admit_again(self, number: int) -> None:
        """What is in line was admitted under the old limits."""
        for slot in self._children.slots:
            self._ledger.recall(slot)
        again = [
            (entry, message(flags, payload)) for entry, task, flags, payload in self._ledger.line() if task == number
        ]
        self._ledger.pull({entry for entry, _ in again})
        # Children were dealt them in turn; they were claimed in this order.
        for entry, raw in sorted(again, key=lambda each: self._ledger.where(each[0]) or ()):
            self._admission.admit(entry, raw, due=True)
