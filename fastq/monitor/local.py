"""Find the workers of this host by their shared memory, and say whether they are alive, going on, and ready.

It imports little, because a probe does this every few seconds: no application, no Celery, no Redis, no command line.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

from fastq import _core, clock
from fastq.ipc.segment import SharedSegment, is_held, segment_files

#: What `fastq reload` sends. HUP is for everybody else; from a terminal it means that the terminal is gone.
RELOAD_SIGNAL = signal.SIGRTMIN + 9

#: Seconds without a turn of its loop after which a worker is taken for stuck. The loop turns at least once a second;
#: some steps of stopping may wait for the broker for ten.
STUCK_S = 20.0


class LocalWorker:
    """One worker of this host, seen from outside."""

    def __init__(self, segment: SharedSegment) -> None:
        self.segment = segment
        self.board: _core.Board = segment.board

    def __repr__(self) -> str:
        return f"<LocalWorker {self.name}>"

    @property
    def name(self) -> str:
        """Node name and eight digits that tell one start from another."""
        return self.segment.core.worker.decode("utf-8", "replace")

    @property
    def node(self) -> str:
        """The node name."""
        return self.name.rpartition("-")[0]

    @property
    def pid(self) -> int:
        """The engine's process."""
        return self.segment.core.engine_pid

    @property
    def state(self) -> str:
        """starting, running, stopping or stopped."""
        return _core.STATES[self.board.figure("state")]

    @property
    def silent_s(self) -> float:
        """Seconds since the engine's loop went round."""
        return max(0.0, (clock.monotonic_ns() - self.board.figure("turn_ns")) / 1e9)

    @property
    def ready_children(self) -> int:
        """Children that take tasks."""
        core = self.segment.core
        return sum(core.state(slot) == _core.READY for slot in range(self.board.figure("slots_used")))

    def why_not_live(self) -> str:
        """Why a liveness probe should fail; empty if it should not."""
        if self.silent_s > STUCK_S:
            return f"the loop of pid {self.pid} has made no progress for {self.silent_s:.0f} s"
        return ""

    def why_not_started(self) -> str:
        """Why a startup probe should fail; empty once the worker has been ready."""
        return "" if self.board.figure("announced") else f"the worker is {self.state}, it has not been ready yet"

    def why_not_ready(self) -> str:
        """Why a readiness probe should fail; empty if this worker takes messages."""
        if self.state != "running":
            return f"the worker is {self.state}"
        return self.why_not_live() or self.why_not_started() or self._why_not_consuming()

    def _why_not_consuming(self) -> str:
        if not self.board.figure("broker_up"):
            return "there is no connection to the broker"
        return "" if self.ready_children else "no child takes tasks"


def local_workers(node: str | None = None) -> list[LocalWorker]:
    """The living workers of this host that this user may look at; those of one node name, if it is given."""
    return sorted(
        (worker for worker in _found() if node is None or worker.node == node), key=lambda worker: worker.name
    )


def _found() -> Iterator[LocalWorker]:
    for path in segment_files():
        if is_held(path) and (segment := _attached(path)) is not None:
            yield LocalWorker(segment)


def _attached(path: Path) -> SharedSegment | None:
    try:
        return SharedSegment.attach(path)
    except (OSError, ValueError):
        return None  # gone meanwhile, of another version, or another file of a worker
