"""Dead letters of a Celery application: which of its refusals and failures are worth one."""

from __future__ import annotations

from typing import Any

from celery.exceptions import MaxRetriesExceededError

from fastq.child.letters import Letters
from fastq.compat.celery.receive import Refused
from fastq.wire.deadletter import retries_of


class Aside(Letters):
    """The letters of one child."""

    def refused(self, raw: bytes, refused: Refused) -> bytes | None:
        """The letter of a message that no child can run, if it is wanted."""
        return self.letter(raw, "unknown" if refused.why == "unknown" else "undecodable", refused.detail)

    def failed(self, raw: bytes, task: Any, error: Any) -> bytes | None:
        """The letter of a message whose task has failed in its last attempt, if it is wanted."""
        if "retries" not in self.wanted:
            return None  # before the message is read for it
        gave_up = isinstance(error, MaxRetriesExceededError)
        return self.spent(raw, retries=retries_of(raw), max_retries=task.max_retries, gave_up=gave_up, error=error)
