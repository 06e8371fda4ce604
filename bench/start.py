"""The row of a cold start: a message waits, a worker is started, the clock stops when its task starts."""

from __future__ import annotations

import functools
import time

from bench.lab import lab
from bench.measurement import Sample
from bench.processes import CELERY, FASTQ, Engine
from bench.rounds import Case
from bench.sizes import Sizes


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


def start(_sizes: Sizes) -> list[Case]:
    """Cold start to the first task."""
    engines = (FASTQ, CELERY)
    return [Case(workload="start", system=one.name, run=functools.partial(_samples, one)) for one in engines]


def _samples(engine: Engine) -> list[Sample]:
    return [Sample(measure="first-task", value=cold_start(engine), unit="s", better="lower")]
