"""Put messages aside for an operator: those that kill, and what `--dead-letter` names. The child writes the letter."""

from __future__ import annotations

from typing import Any

from celery.exceptions import MaxRetriesExceededError

from fastq import clock
from fastq.compat.celery.receive import Refused
from fastq.program import Verdict
from fastq.wire.deadletter import DeadLetter, Reason, retries_of


class Aside:
    """Decides which messages are put aside. `wanted` are the reasons that the operator has named."""

    def __init__(self, wanted: tuple[str, ...], *, node: str) -> None:
        self.wanted, self.node = frozenset(wanted), node

    def poisoned(self, raw: bytes, verdict: Verdict) -> bytes:
        """The letter of a message that has ended too many processes."""
        return self._write(raw, "crashes", verdict.reason, deaths=verdict.deaths)

    def refused(self, raw: bytes, refused: Refused) -> bytes | None:
        """The letter of a message that no child can run, if it is wanted."""
        return self.letter(raw, "unknown" if refused.why == "unknown" else "undecodable", refused.detail)

    def failed(self, raw: bytes, task: Any, error: Any) -> bytes | None:
        """The letter of a message whose task has failed in its last attempt, if it is wanted."""
        if "retries" not in self.wanted:
            return None
        retries = retries_of(raw)
        over = task.max_retries is not None and retries >= task.max_retries > 0
        if not over and not isinstance(error, MaxRetriesExceededError):
            return None
        return self._write(raw, "retries", f"it has failed {retries + 1} times; the last time: {error!r:.1000}")

    def letter(self, raw: bytes, reason: Reason, detail: str) -> bytes | None:
        """A letter, if this reason is wanted."""
        return self._write(raw, reason, detail) if reason in self.wanted else None

    def _write(self, raw: bytes, reason: Reason, detail: str, *, deaths: tuple[Any, ...] = ()) -> bytes:
        return DeadLetter.of(raw, reason=reason, detail=detail, at=clock.now(), node=self.node, deaths=deaths).encode()
