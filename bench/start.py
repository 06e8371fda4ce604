"""The row of a cold start: a message waits, a worker is started, the clock stops when its task starts."""

from __future__ import annotations

import statistics
import time

import msgspec

from bench.lab import lab
from bench.line import Line, Sizes
from bench.processes import CELERY, FASTQ, Engine


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Cold starts, in seconds from starting the process to the first task."""

    engine: str
    seconds: list[float]

    @property
    def median_s(self) -> float:
        """The one in the middle."""
        return statistics.median(self.seconds)


def cold_start(engine: Engine) -> float:
    """Start a worker for one waiting message."""
    with lab() as place:
        place.fill("noop", 1)
        worker = place.worker(engine)
        began = time.monotonic()
        with worker:
            place.until_executed(1, worker=worker)
        ((_, at),) = place.ledger.starts()
    return at - began


def start(sizes: Sizes) -> list[Line]:
    """Cold start to the first task."""
    # Turn by turn, so that a slow moment of the machine meets both.
    pairs = [(cold_start(FASTQ), cold_start(CELERY)) for _ in range(sizes.starts)]
    ours = Start(engine="fastq", seconds=[pair[0] for pair in pairs])
    theirs = Start(engine="celery", seconds=[pair[1] for pair in pairs])
    return [
        Line(
            what=f"cold start to the first task, median of {sizes.starts}",
            target="less than Celery's",
            fastq=f"**{ours.median_s:.2f} s**",
            celery=f"{theirs.median_s:.2f} s",
            reached=ours.median_s < theirs.median_s,
            evidence={"fastq": ours, "celery": theirs},
        )
    ]
