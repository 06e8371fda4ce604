"""What commands work on, and the ways an answer may take when it cannot be given at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from fastq import _core
from fastq.program import ProgramInfo
from fastq.transport.connect import Endpoint
from fastq.worker.cluster.actions import Actions
from fastq.worker.cluster.consumers import Consumers
from fastq.worker.cluster.events import Events
from fastq.worker.cluster.lamport import SharedLamport
from fastq.worker.pipeline.admit import Admission
from fastq.worker.processes.children import Children
from fastq.worker.processes.scaler import Scaler


class Errand(msgspec.Struct, frozen=True):
    """An answer that takes a while: `work` runs in a thread and touches nothing of the engine's."""

    work: Callable[[], Any]


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that only the application has: its command of this name is run beside the children."""

    name: str
    arguments: dict[str, Any]


class Silence:
    """The answer of a command that never answers."""


SILENT = Silence()


class View(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a worker that commands read, and change nothing of."""

    ledger: _core.Ledger
    segment: _core.Segment
    children: Children
    admission: Admission
    consumers: Consumers


class State(msgspec.Struct, kw_only=True):
    """The worker, as commands see it; `actions` changes it."""

    node: str
    program: ProgramInfo
    clock: SharedLamport
    actions: Actions
    events: Events
    scaler: Scaler
    view: View
    endpoint: Endpoint
    #: When the worker came up, by the monotonic clock.
    since_s: float
    #: Called with id, topic and action; None: this worker takes no part in elections.
    election: Callable[[str, str, Any], None] | None = None

    def prefetch_count(self) -> int:
        """What Celery would have as its prefetch count: messages that wait for their time come on top."""
        count = self.program.prefetch_multiplier * self.view.children.wanted
        return count + self.view.ledger.waiting - len(self.view.admission.buckets) if count else 0

    def facts(self) -> dict[str, Any]:
        """What commands of the application may ask for."""
        limits = {task.name: task.rate_limit for task in self.view.admission.tasks if not task.gone}
        return {"prefetch_count": self.prefetch_count(), "rate_limits": limits}


def ok(value: object) -> dict[str, Any]:
    """Celery's word for what has been done."""
    return {"ok": value}


def nok(value: object) -> dict[str, Any]:
    """Celery's word for what has not."""
    return {"error": value}
