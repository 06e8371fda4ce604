"""Let urgent messages in while a worker holds as many as it may: for each, one that is less urgent goes back.

A worker that holds all it may does not claim, and its tasks may be long. If what waits in its line is not of the first
priority, it looks for what is more urgent, and claims as much as it can make room for. What it gives back goes to the
front of its queue, as it was, and nothing that a child has started or has before it is given back. So for the time of
one flush a worker holds more than its prefetch limit, never longer; and never if nothing in its line could make room,
as with late acknowledgement and a multiplier of 1.

It looks instead of waiting in BLMOVE: an idle worker, which does wait there, shall be the first to get the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fastq import _core, clock
from fastq.worker.poll import Timers

#: Seconds between two looks, and seconds that a worker has to be full before the first. Tasks that are shorter make
#: room faster than that.
LOOK_S = 0.010

#: Messages that overtake at once.
MOST = 64


class Claims(Protocol):
    """What this needs of the intake."""

    ledger: _core.Ledger
    ranks: list[int]

    @property
    def active(self) -> list[int]: ...
    @property
    def lengths(self) -> Sequence[int]: ...
    @property
    def claiming(self) -> bool: ...
    @property
    def full(self) -> bool: ...
    def look(self) -> None: ...
    def overtake(self, key: int, count: int) -> None: ...


class Overtaking:
    """Claims what is more urgent than the end of the line, while there is no credit."""

    def __init__(self, claims: Claims, *, timers: Timers) -> None:
        self._claims, self._timers = claims, timers
        self._full_since_s: float | None = None

    def pause(self) -> None:
        """There is credit again."""
        self._full_since_s = None

    def pump(self) -> None:
        """There is no credit, and the end of the line is not of the first priority."""
        now = clock.monotonic()
        if self._full_since_s is None:
            self._full_since_s = now
        if not self._claims.claiming and (now - self._full_since_s < LOOK_S or not self._overtake()):
            self._timers.sooner("overtake", LOOK_S, self._look)

    def _overtake(self) -> bool:
        """Claim from the most urgent list that is known to hold something; False: there is none, or no room."""
        claims = self._claims
        last, ranks = claims.ledger.last_rank, claims.ranks
        urgent = [key for key in claims.active if ranks[key] < last and claims.lengths[key] > 0]
        if not urgent:
            return False
        key = min(urgent, key=lambda number: ranks[number])
        count = min(MOST, claims.lengths[key], claims.ledger.may_yield(ranks[key]))
        if count:
            claims.overtake(key, count)
        return count > 0

    def _look(self) -> None:
        if self._claims.ledger.last_rank and self._claims.full and not self._claims.claiming:
            self._claims.look()
