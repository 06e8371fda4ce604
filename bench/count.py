"""Read the ledgers that tasks write: which numbers ran, how often, and when."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import msgspec

from bench.ledger import RECORD, TICK_NS, WRAP


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger says about the numbers 0 to `wanted` - 1."""

    wanted: int
    executed: int
    lost: int
    repeated: int
    #: Seconds between the first and the last start.
    span_s: float

    @property
    def rate(self) -> float:
        """Tasks per second between the first and the last."""
        return (self.executed - 1) / self.span_s if self.span_s > 0 else 0.0


class Ledger:
    """The folder with all processes' files, for the process that measures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._began_ticks = time.monotonic_ns() // TICK_NS

    def executed(self) -> int:
        """How many executions are written down now. Cheap: looks at sizes only."""
        return sum(path.stat().st_size for path in self.folder.glob("*.led")) // RECORD.size

    def executed_by(self, pid: int) -> int:
        """How many executions one process has written down."""
        path = self.folder / f"{pid}.led"
        return path.stat().st_size // RECORD.size if path.exists() else 0

    def starts(self) -> list[tuple[int, float]]:
        """Number and start (seconds of the monotonic clock) of each execution, repeated ones included."""
        return [
            (number, (self._began_ticks + (ticks - self._began_ticks) % WRAP) * TICK_NS / 1e9)
            for path in self.folder.glob("*.led")
            for number, ticks in RECORD.iter_unpack(_whole(path.read_bytes()))
        ]

    def count(self, wanted: int) -> Count:
        """Check every number from 0 to `wanted` - 1."""
        starts = self.starts()
        seen = Counter(number for number, _ in starts)
        times = [at for _, at in starts]
        return Count(
            wanted=wanted,
            executed=len(starts),
            lost=sum(1 for number in range(wanted) if number not in seen),
            repeated=sum(often - 1 for often in seen.values()),
            span_s=max(times) - min(times) if times else 0.0,
        )


def _whole(data: bytes) -> bytes:
    """Leave out a record that is just being written."""
    return data[: len(data) // RECORD.size * RECORD.size]
