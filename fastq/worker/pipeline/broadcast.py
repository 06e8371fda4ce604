"""Messages of fanout exchanges: published, not queued, so each worker that listens gets each of them.

Nothing of such a message is on the broker: it has an entry in the ledger and no place in a claim list, nothing is
acknowledged, and what has not been started when the worker stops is gone, as with Celery. One that waits for its time
is kept here.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable

from fastq import _core, clock
from fastq.worker.poll import Timers

logger: logging.Logger = logging.getLogger(__name__)

#: Seconds that a timer sleeps at most, so that a wall clock that was set is noticed.
LONGEST_S = 1.0


class Broadcasts:
    """What was published to this worker and has not been started."""

    def __init__(self, ledger: _core.Ledger, *, timers: Timers, admit: Callable[[int, bytes, bool], None]) -> None:
        self._ledger, self._timers, self._admit = ledger, timers, admit
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._count = 0

    def heard(self, _channel: bytes, message: bytes) -> None:
        """A message was published on one of the channels."""
        if not self._ledger.holding:
            self._admit(self._ledger.adopt(), message, False)

    def park(self, entry: int, raw: bytes, at: float) -> None:
        """Keep a message until the unix time `at`."""
        self._count += 1
        heapq.heappush(self._waiting, (at, self._count, entry, raw))
        self._set_timer()

    def hasten(self, entries: set[int]) -> None:
        """Let these be due now."""
        now = clock.now()
        self._waiting = [(now if e in entries else at, n, e, raw) for at, n, e, raw in self._waiting]
        heapq.heapify(self._waiting)
        self._set_timer()

    def drop(self) -> None:
        """Forget whatever has not been started: the worker stops."""
        entries = {entry for entry, *_ in self._ledger.line() if self._ledger.where(entry) is None}
        self._ledger.pull(entries)
        entries.update(entry for _, _, entry, _ in self._waiting)
        self._waiting.clear()
        for entry in entries:
            self._ledger.quit(entry)
        if entries:
            logger.warning("%d broadcast messages that were not started are dropped.", len(entries))

    def _set_timer(self) -> None:
        if self._waiting:
            self._timers.sooner("broadcasts", min(max(0.0, self._waiting[0][0] - clock.now()), LONGEST_S), self._due)

    def _due(self) -> None:
        while self._waiting and self._waiting[0][0] <= clock.now():
            _at, _count, entry, raw = heapq.heappop(self._waiting)
            self._admit(entry, raw, True)
        self._set_timer()
