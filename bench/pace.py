"""How long each case takes, when all of them will be done, and an end for one that hangs."""

from __future__ import annotations

import contextlib
import signal
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType

#: Seconds after which a case that has not heard that it is over hears it again.
AGAIN_S = 15.0


class TooLongError(Exception):
    """A case took longer than it may."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TooLongError out of the block, in the main thread, if it takes longer. 0: as long as it likes."""
    if not seconds:
        yield
        return

    def late(_number: int, _frame: FrameType | None) -> None:
        raise TooLongError(f"it was not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Pace:
    """Seconds of each case's runs: of this measuring, and of an earlier one to reckon with until there are some."""

    def __init__(self, earlier: Mapping[str, Iterable[float]]) -> None:
        self._earlier = {name: list(taken) for name, taken in earlier.items()}
        self.taken: dict[str, list[float]] = {}

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Keep how long the block takes."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.taken.setdefault(name, []).append(round(time.monotonic() - began, 2))

    def expected_s(self, names: Iterable[str]) -> float | None:
        """Seconds that these will take; None as long as nothing is known. What never ran counts as the others do."""
        known = [seconds for taken in (self.taken or self._earlier).values() for seconds in taken]
        usual = statistics.median(known) if known else None
        found = [statistics.median(taken) if (taken := self._of(name)) else usual for name in names]
        return None if usual is None else sum(seconds for seconds in found if seconds is not None)

    def _of(self, name: str) -> list[float]:
        return self.taken.get(name) or self._earlier.get(name, [])


def clock_after(seconds: float | None, *, until: float) -> str:
    """The wall clock's time in so many seconds, or at `until` of the monotonic clock, if that is sooner.

    Empty if it is not known.
    """
    if seconds is None:
        return ""
    left = min(seconds, max(0.0, until - time.monotonic()))
    return time.strftime(", ends about %H:%M", time.localtime(time.time() + left))
