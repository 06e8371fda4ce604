"""Keep the board: what the engine does, written where everybody can read it, by the engine's thread only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastq import _core, clock
from fastq.program import TaskInfo
from fastq.transport.connect import Endpoint
from fastq.worker.cluster.lease import Look
from fastq.worker.lifecycle import STOPPING, State
from fastq.worker.pipeline.intake import QueueKey
from fastq.worker.poll import PULSE_S, Errands, Timers

#: Seconds between looks at the queues' lengths, if anybody is to be told of them.
LENGTHS_S = 5.0

_STATES = {State.STARTING: 0, State.RUNNING: 1, State.STOPPED: 3}


def name_tasks(board: _core.Board, tasks: Sequence[TaskInfo]) -> None:
    """Give tasks their rows: the application's before Celery's own, should there be too few."""
    names = sorted((task.name for task in tasks), key=lambda name: (name.startswith("celery."), name))
    board.name_tasks([name.encode() for name in names])


class Notes:
    """What the engine writes down as it goes. Each is a store or two; nothing here waits."""

    def __init__(self, board: _core.Board, *, timers: Timers, wanted: Callable[[], int]) -> None:
        self._board, self._timers, self._wanted = board, timers, wanted
        board.put("up_since_ms", int(clock.now() * 1000))
        self._pulse()

    def _pulse(self) -> None:
        self._board.put("children_wanted", self._wanted())
        self._timers.set("pulse", PULSE_S, self._pulse)

    def state(self, state: State) -> None:
        """The worker is in this state now: a readiness probe that comes next says so."""
        self._board.put("state", _STATES.get(state, 2 if state in STOPPING else 1))

    def program(self, tasks: Sequence[TaskInfo], *, nursery: int) -> None:
        """Children are forked by this process from now on, and know these tasks."""
        name_tasks(self._board, tasks)
        self._board.put("nursery_pid", nursery)

    def reloaded(self, *, well: bool) -> None:
        """A reload has ended: all children are the new ones, or the application could not be loaded."""
        self._board.add("reloads" if well else "reloads_failed")

    def connected(self, *, again: bool) -> None:
        """The broker is there."""
        self._board.put("broker_up", 1)
        self.lease()
        self._board.put("announced", 1)
        if again:
            self._board.add("reconnects")

    def disconnected(self) -> None:
        """The broker is gone."""
        self._board.put("broker_up", 0)

    def lease(self) -> None:
        """The broker has confirmed a heartbeat."""
        self._board.put("lease_ns", clock.monotonic_ns())

    def round_trip(self, took_s: float) -> None:
        """A claim has been answered."""
        self._board.add("round_trips")
        self._board.add("round_trip_ns", int(took_s * 1e9))

    def looked(self, look: Look) -> None:
        """What dead workers had has been put back, and those who wait for slots have been counted."""
        self.restored(sum(each.restored for each in look.restored))
        if look.waiting:
            self._board.put_for_slot([(task.encode(), count) for task, count in look.waiting.items()])

    def restored(self, count: int) -> None:
        """Messages of other workers have been put back."""
        self._board.add("restored", count)


class Lengths:
    """Looks at the queues' lengths every few seconds. Claims tell them too, but a worker that is full makes none."""

    def __init__(
        self,
        board: _core.Board,
        *,
        endpoint: Endpoint,
        keys: Sequence[QueueKey],
        is_up: Callable[[], bool],
        timers: Timers,
        errands: Errands,
    ) -> None:
        self._board, self._endpoint, self._keys, self._is_up = board, endpoint, keys, is_up
        self._timers, self._errands = timers, errands
        self._client: Any = None
        self._start()

    def _start(self) -> None:
        if self._is_up():
            self._errands.run(self._look, self._looked, name="fastq-lengths")
        else:
            self._timers.set("lengths", LENGTHS_S, self._start)

    def _look(self) -> dict[str, int]:
        if self._client is None:
            self._client = self._endpoint.client(timeout_s=LENGTHS_S)
        keys = list(self._keys)
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.llen(key.key)
        found: dict[str, int] = {}
        for key, length in zip(keys, pipe.execute(), strict=True):
            found[key.queue] = found.get(key.queue, 0) + int(length)
        return found

    def _looked(self, outcome: dict[str, int] | Exception) -> None:
        if isinstance(outcome, dict):
            for queue, length in outcome.items():
                self._board.put_length(queue.encode(), length)
        self._timers.set("lengths", LENGTHS_S, self._start)

    def close(self) -> None:
        """Look no more."""
        self._timers.cancel("lengths")
        if self._client is not None:
            self._client.close()
