"""The rows of memory: over many tasks, with many ETA messages waiting, and of a whole worker of four children."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from importlib import metadata

import msgspec
import psutil

from bench.lab import QUEUE, Lab, lab
from bench.measurement import Sample
from bench.processes import CELERY, FASTQ, Engine, Worker
from bench.rounds import Case
from bench.sizes import Sizes

MIB = 1024 * 1024

#: Messages in the queue at most while many are run: the bench refills it, so Redis need not hold them all.
BACKLOG = 50_000

#: Seconds without a change of the queue after which a worker has claimed the ETA messages it wants.
STEADY_S = 3.0

#: Seconds that all ETA messages wait: longer than any measurement.
FAR_OFF_S = 7200.0


class Flat(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's memory while many tasks pass through."""

    engine: str
    tasks: int
    first_mib: float
    last_mib: float

    @property
    def growth_mib(self) -> float:
        """From a tenth of the tasks to all of them."""
        return self.last_mib - self.first_mib


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's memory with messages that are not due for long."""

    engine: str
    messages: int
    claimed: int
    engine_mib: float
    worker_mib: float


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """A whole worker, shared pages counted once."""

    engine: str
    modules: str
    pss_mib: float
    processes: int


def _rss_mib(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / MIB


def _pss_mib(worker: Worker) -> float:
    family = [one for some in worker.processes().values() for one in some]
    return sum(float(one.memory_full_info().pss) for one in family) / MIB


def run_many(engine: Engine, *, count: int) -> Flat:
    """Run `count` tasks, refilling the queue, and look at the main process after a tenth and at the end."""
    with lab() as place, place.worker(engine) as worker:
        tenth, sent, first_mib = count // 10, 0, 0.0
        while sent < count:
            more = min(BACKLOG // 2, tenth, count - sent)
            place.fill("stored", more, start=sent)
            sent += more
            place.until_executed(max(tenth if sent >= tenth else 0, sent - BACKLOG // 2), worker=worker)
            first_mib = first_mib or (_rss_mib(worker.main) if place.ledger.executed() >= tenth else 0.0)
        place.until_executed(count, worker=worker)
        time.sleep(1.0)
        return Flat(engine=engine.name, tasks=count, first_mib=first_mib, last_mib=_rss_mib(worker.main))


def hold_many(engine: Engine, *, count: int) -> Waiting:
    """Give a worker `count` messages for much later and wait until it has claimed what it wants."""
    with lab() as place, place.worker(engine) as worker:
        place.warm(worker, children=2)
        place.fill("noop", count, countdown=FAR_OFF_S)
        left = _steady(place, worker)
        return Waiting(
            engine=engine.name,
            messages=count,
            claimed=count - left,
            engine_mib=_rss_mib(worker.main),
            worker_mib=_pss_mib(worker),
        )


def _steady(place: Lab, worker: Worker) -> int:
    """Wait until the queue's length no longer changes, and return it."""
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < STEADY_S:
        worker.check()
        length = int(place.client.llen(QUEUE))
        if length != seen:
            seen, since = length, time.monotonic()
        time.sleep(0.1)
    return seen


def whole(engine: Engine, *, children: int = 4) -> Size:
    """Measure a worker with an application of Django's size once every child has run something."""
    with lab() as place, place.worker(engine, app="bench.apps.big", children=children) as worker:
        place.warm(worker, children=children)
        time.sleep(1.0)
        processes = sum(map(len, worker.processes().values()))
        return Size(engine=engine.name, modules=_modules(), pss_mib=_pss_mib(worker), processes=processes)


def _modules() -> str:
    try:
        return f"Django {metadata.version('Django')}"
    except metadata.PackageNotFoundError:
        return "large standard modules; Django is not installed here"


def flat(sizes: Sizes) -> list[Case]:
    """Growth of the engine over many tasks."""
    return _pair("flat", lambda engine, count: _flat(run_many(engine, count=count)), sizes.flat, sizes.flat_celery)


def _flat(found: Flat) -> list[Sample]:
    extras = {"tasks": found.tasks, "last_mib": found.last_mib}
    return [Sample(measure="growth", value=found.growth_mib, unit="MiB", better="lower", extras=extras)]


def eta(sizes: Sizes) -> list[Case]:
    """Engine memory with ETA messages waiting."""
    return _pair("eta", lambda engine, count: _eta(hold_many(engine, count=count)), sizes.eta, sizes.eta_celery)


def _eta(found: Waiting) -> list[Sample]:
    extras = {"messages": found.messages, "claimed": found.claimed, "worker_mib": found.worker_mib}
    return [Sample(measure="engine", value=found.engine_mib, unit="MiB", better="lower", extras=extras)]


def pss(_sizes: Sizes) -> list[Case]:
    """Memory of a worker with four children."""
    return _pair("pss", lambda engine, children: _pss(whole(engine, children=children)), 4, 4)


def _pss(found: Size) -> list[Sample]:
    extras = {"processes": found.processes, "modules": found.modules}
    return [Sample(measure="pss", value=found.pss_mib, unit="MiB", better="lower", extras=extras)]


def _pair(workload: str, run: Callable[[Engine, int], list[Sample]], ours: int, theirs: int) -> list[Case]:
    """Either engine with its number. Memory hardly varies: two rounds are enough."""
    return [
        Case(workload=workload, system=engine.name, run=functools.partial(run, engine, count), at_most=2)
        for engine, count in ((FASTQ, ours), (CELERY, theirs))
    ]
