"""Rows of throughput: a backlog waits, a worker of two children starts and works it off.

The rate is taken between the first and the last execution, CPU time from the first look after the first execution to
shortly after the last, divided by the tasks in between; so start-up is in neither (it has a row of its own).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import nullcontext

import msgspec

from bench import floor
from bench.count import Count
from bench.lab import Lab, lab
from bench.measurement import Roles, Sample
from bench.processes import CELERY, FASTQ, Engine, Worker
from bench.proxy import delayed
from bench.rounds import Case
from bench.sizes import Sizes
from fastq.producer.options import Wire

CHILDREN = 2

#: Seconds between the last execution and the last look at CPU time, for results and acknowledgements on their way.
SETTLE_S = 0.15

#: Milliseconds there and back between worker and Redis in the row "far".
FAR_MS = 2.0

#: As good as none: the same proxy, which holds nothing back.
NO_MS = 0.001


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """One backlog, worked off."""

    engine: str
    task: str
    count: Count
    rate: float
    wall_s: float
    cpu_us: Roles


def drain(
    engine: Engine,
    *,
    task: str,
    count: int,
    children: int = CHILDREN,
    rtt_ms: float = 0.0,
    wire: Wire = "celery",
    more: Mapping[str, str] | None = None,
) -> Drain:
    """Work off a backlog of `count` tasks and check that each ran once. `more`: for the worker's environment."""
    with lab() as place:
        place.fill(task, count, wire=wire)
        with delayed(place.url, rtt_ms=rtt_ms) if rtt_ms else nullcontext(place.url) as url:
            return _measure(place, place.worker(engine, children=children, url=url, more=more), task=task, count=count)


def _measure(place: Lab, worker: Worker, *, task: str, count: int) -> Drain:
    began = time.monotonic()
    with worker:
        place.until_executed(1, worker=worker)
        already, before = place.ledger.executed(), _cpu_s(place, worker)
        place.until_executed(count, worker=worker)
        wall_s = time.monotonic() - began
        time.sleep(SETTLE_S)
        used = _cpu_s(place, worker) - before
    # Counted after the worker has stopped: only then is it certain that nothing is run twice.
    found = place.ledger.count(count)
    return Drain(
        engine=worker.engine.name,
        task=task,
        count=found,
        rate=found.rate,
        wall_s=wall_s,
        cpu_us=used.each(count - already, unit=1e-6),
    )


def _cpu_s(place: Lab, worker: Worker) -> Roles:
    return msgspec.structs.replace(worker.cpu_s(), redis=place.redis_cpu_s())


def sample(found: Drain) -> Sample:
    """Its rate and what it cost."""
    return Sample(
        measure="rate",
        value=found.rate,
        unit="tasks/s",
        better="higher",
        lost=found.count.lost,
        repeated=found.count.repeated,
        cpu_us=found.cpu_us,
        extras={"tasks": found.count.wanted, "wall_s": found.wall_s},
    )


def _case(
    workload: str,
    engine: Engine,
    *,
    task: str,
    count: int,
    children: int = CHILDREN,
    rtt_ms: float = 0.0,
    **more: str,
) -> Case:
    def run() -> list[Sample]:
        return [sample(drain(engine, task=task, count=count, children=children, rtt_ms=rtt_ms, more=more))]

    return Case(workload=workload, system=engine.name, run=run)


def _side_by_side(workload: str, *, task: str, sizes: Sizes) -> list[Case]:
    return [
        _case(workload, FASTQ, task=task, count=sizes.drain),
        _case(workload, CELERY, task=task, count=sizes.drain_celery),
    ]


def _floor(workload: str, *, keep: bool, sizes: Sizes) -> Case:
    return Case(
        workload=workload, system="floor", run=lambda: [floor.drain(task=workload, count=sizes.drain, keep=keep)]
    )


def noop(sizes: Sizes) -> list[Case]:
    """No-op tasks whose results are ignored."""
    return [*_side_by_side("noop", task="noop", sizes=sizes), _floor("noop", keep=False, sizes=sizes)]


def stored(sizes: Sizes) -> list[Case]:
    """No-op tasks whose results are stored."""
    return [*_side_by_side("stored", task="stored", sizes=sizes), _floor("stored", keep=True, sizes=sizes)]


def late(sizes: Sizes) -> list[Case]:
    """Late acknowledgement, results stored."""
    return _side_by_side("late", task="late", sizes=sizes)


def events(sizes: Sizes) -> list[Case]:
    """No-op tasks whose results are stored, with three events for each (`-E`)."""
    return [
        _case("events", msgspec.structs.replace(engine, tuning=(*engine.tuning, "-E")), task="stored", count=count)
        for engine, count in ((FASTQ, sizes.drain), (CELERY, sizes.drain_celery))
    ]


def far(sizes: Sizes) -> list[Case]:
    """The same with some distance between worker and Redis, beside the same proxy without any: its CPU comes out of the
    same two cores, which that of a distance would not."""
    return [
        _case("far", FASTQ, task="stored", count=sizes.drain, rtt_ms=FAR_MS),
        _case("far-beside", FASTQ, task="stored", count=sizes.drain, rtt_ms=NO_MS),
        _case("far", CELERY, task="stored", count=max(200, sizes.drain_celery // 10), rtt_ms=FAR_MS),
    ]


def scaling(sizes: Sizes) -> list[Case]:
    """From one child to twice as many as there are cores."""
    cores = len(os.sched_getaffinity(0))
    counts = sorted({1, 2, *(2**power for power in range(2, 9) if 2**power <= 2 * cores)})
    tasks = (("brief", max(1000, sizes.drain // 40)), ("stored", sizes.drain))
    return [
        msgspec.structs.replace(
            _case(f"{task}-children-{children}", FASTQ, task=task, count=count, children=children), at_most=3
        )
        for task, count in tasks
        for children in counts
    ]


def recycled(sizes: Sizes) -> list[Case]:
    """Tasks of a millisecond, with children that are replaced after 1,000 of them, and without."""
    count = max(2000, sizes.drain // 20)
    return [
        _case("brief-recycled", FASTQ, task="brief", count=count, FASTQ_WORKER_MAX_TASKS_PER_CHILD="1000"),
        _case("brief", FASTQ, task="brief", count=count),
    ]
