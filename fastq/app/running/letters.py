"""Put messages aside for an operator: those that kill, and what `--dead-letter` names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastq import clock
from fastq.errors import MaxRetriesExceeded
from fastq.wire.deadletter import DeadLetter, Reason

if TYPE_CHECKING:
    from fastq.app.running.context import Request
    from fastq.app.task import BaseTask
    from fastq.program import Verdict


class Letters:
    """Decides which messages are put aside. `wanted` are the reasons that the operator has named."""

    def __init__(self, wanted: tuple[str, ...], *, node: str) -> None:
        self.wanted, self.node = frozenset(wanted), node

    def poisoned(self, raw: bytes, verdict: Verdict) -> bytes:
        """The letter of a message that has ended too many processes."""
        return self._write(raw, "crashes", verdict.reason, deaths=verdict.deaths)

    def refused(self, raw: bytes, reason: Reason, detail: str) -> bytes | None:
        """The letter of a message that no child can run, if it is wanted."""
        return self._write(raw, reason, detail) if reason in self.wanted else None

    def failed(
        self, raw: bytes, task: BaseTask[Any, Any], request: Request, error: BaseException | None
    ) -> bytes | None:
        """The letter of a message whose task has failed in its last attempt, if it is wanted."""
        if "retries" not in self.wanted:
            return None
        most = task.options.max_retries
        over = most is not None and request.retries >= most > 0
        if not over and not isinstance(error, MaxRetriesExceeded):
            return None
        return self._write(raw, "retries", f"it has failed {request.retries + 1} times; the last time: {error!r:.1000}")

    def _write(self, raw: bytes, reason: Reason, detail: str, *, deaths: tuple[Any, ...] = ()) -> bytes:
        return DeadLetter.of(raw, reason=reason, detail=detail, at=clock.now(), node=self.node, deaths=deaths).encode()
