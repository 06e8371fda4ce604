"""Read what Celery's result store says of a task."""

from __future__ import annotations

from typing import Any

import msgspec

from fastq.errors import TaskFailed, TaskRevoked
from fastq.wire.kombu_json import loads

#: States after which nothing more comes.
FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a task is: `current` from 0 to 1, `message` in its words, `status` as of its result."""

    current: float = 0.0
    message: str = ""
    status: str = "PENDING"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a task's result now."""

    status: str = "PENDING"
    result: Any = None
    traceback: str | None = None

    @property
    def final(self) -> bool:
        """Tell whether it will stay as it is."""
        return self.status in FINAL

    @property
    def successful(self) -> bool:
        """Tell whether the task has returned."""
        return self.status == "SUCCESS"

    @property
    def failed(self) -> bool:
        """Tell whether the task has raised; one that was revoked has not."""
        return self.status == "FAILURE"

    @property
    def progress(self) -> Progress:
        """How far it is, as `task.progress(...)` has said it; 1 when it has returned."""
        if self.status != "PROGRESS":
            return Progress(current=1.0 if self.successful else 0.0, status=self.status)
        found = self.result if isinstance(self.result, dict) else {}
        return Progress(current=found.get("current", 0.0), message=found.get("message", ""), status=self.status)

    def value(self, task_id: str) -> Any:
        """Return the result of a success. Raises TaskRevoked, or TaskFailed for anything else."""
        if self.status == "SUCCESS":
            return self.result
        raise self.error(task_id)

    def error(self, task_id: str) -> TaskFailed | TaskRevoked:
        """Return what `value` raises where there is no result."""
        kind = TaskRevoked if self.status == "REVOKED" else TaskFailed
        found = self.result if isinstance(self.result, dict) else {}
        return kind(
            f"task {task_id} ended as {self.status}: {self._reason()}",
            outcome=self,
            task_id=task_id,
            exc_type=found.get("exc_type", ""),
            exc_module=found.get("exc_module", ""),
            exc_args=_arguments(found.get("exc_message")),
            traceback=self.traceback,
        )

    def _reason(self) -> str:
        found = self.result
        if not isinstance(found, dict) or "exc_type" not in found:
            return repr(found)
        return f"{found['exc_type']}{_arguments(found.get('exc_message'))!r}"


def _arguments(stored: Any) -> tuple[Any, ...]:
    """An exception's arguments: a list, unless they could not be encoded; then one text."""
    if stored is None:
        return ()
    return tuple(stored) if isinstance(stored, (list, tuple)) else (stored,)


def read_outcome(stored: bytes | str | None) -> Outcome:
    """Read a stored result; an absent one is pending, as for Celery."""
    if stored is None:
        return Outcome()
    meta = loads(stored)
    return Outcome(status=meta["status"], result=meta.get("result"), traceback=meta.get("traceback"))
