"""The rows of memory: over many tasks, with many ETA messages waiting, and of a whole worker of four children."""

from __future__ import annotations

import time
from importlib import metadata

import msgspec
import psutil

from bench.lab import QUEUE, Lab, lab
from bench.line import Line, Sizes
from bench.processes import CELERY, FASTQ, Engine, Worker

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


def flat(sizes: Sizes) -> list[Line]:
    """Growth of the engine over many tasks."""
    ours, theirs = run_many(FASTQ, count=sizes.flat), run_many(CELERY, count=sizes.flat_celery)
    return [
        Line(
            what=f"engine memory over {sizes.flat:,} tasks",
            target="flat within 5 MB",
            fastq=f"**{ours.growth_mib:+.1f} MB** to {ours.last_mib:.0f} MB",
            celery=f"{theirs.growth_mib:+.1f} MB to {theirs.last_mib:.0f} MB over {theirs.tasks:,}",
            reached=ours.growth_mib <= 5.0,
            evidence={"fastq": ours, "celery": theirs},
        )
    ]


def eta(sizes: Sizes) -> list[Line]:
    """Engine memory with ETA messages waiting."""
    ours, theirs = hold_many(FASTQ, count=sizes.eta), hold_many(CELERY, count=sizes.eta_celery)
    return [
        Line(
            what=f"engine memory with {sizes.eta:,} ETA messages waiting",
            target="under 200 MB",
            fastq=f"**{ours.engine_mib:.0f} MB**, {ours.claimed:,} claimed",
            celery=f"{theirs.engine_mib:.0f} MB with {theirs.messages:,}, {theirs.claimed:,} claimed",
            reached=ours.engine_mib < 200.0,
            evidence={"fastq": ours, "celery": theirs},
        )
    ]


def pss(_sizes: Sizes) -> list[Line]:
    """Memory of a worker with four children."""
    ours, theirs = whole(FASTQ), whole(CELERY)
    return [
        Line(
            what=f"memory of a worker with 4 children, PSS ({ours.modules})",
            target="less than Celery's",
            fastq=f"**{ours.pss_mib:.0f} MB** in {ours.processes} processes",
            celery=f"{theirs.pss_mib:.0f} MB in {theirs.processes} processes",
            reached=ours.pss_mib < theirs.pss_mib,
            evidence={"fastq": ours, "celery": theirs},
        )
    ]
