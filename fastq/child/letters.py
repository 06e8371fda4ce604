"""Put messages aside for an operator: those that kill, and what `--dead-letter` names. The child writes the letter."""

from __future__ import annotations

from typing import Any

from fastq import clock
from fastq.program import Verdict
from fastq.wire.deadletter import DeadLetter, Reason


class Letters:
    """Decides which messages are put aside. `wanted` are the reasons that the operator has named."""

    def __init__(self, wanted: tuple[str, ...], *, node: str) -> None:
        self.wanted: frozenset[str] = frozenset(wanted)
        self.node: str = node

    def poisoned(self, raw: bytes, verdict: Verdict) -> bytes:
        """The letter of a message that has ended too many processes."""
        return self._write(raw, "crashes", verdict.reason, deaths=verdict.deaths)

    def letter(self, raw: bytes, reason: Reason, detail: str) -> bytes | None:
        """A letter, if this reason is wanted."""
        return self._write(raw, reason, detail) if reason in self.wanted else None

    def spent(self, raw: bytes, *, retries: int, max_retries: int | None, gave_up: bool, error: object) -> bytes | None:
        """The letter of a message whose task has failed for the last time, if it is wanted. `gave_up`: the task itself
        says that it was the last."""
        over = gave_up or (max_retries is not None and retries >= max_retries > 0)
        if not over or "retries" not in self.wanted:
            return None
        return self._write(raw, "retries", f"it has failed {retries + 1} times; the last time: {error!r:.1000}")

    def _write(self, raw: bytes, reason: Reason, detail: str, *, deaths: tuple[Any, ...] = ()) -> bytes:
        return DeadLetter.of(raw, reason=reason, detail=detail, at=clock.now(), node=self.node, deaths=deaths).encode()
