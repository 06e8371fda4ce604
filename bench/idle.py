"""The rows of a worker that has nothing to do: what that costs, and how soon it starts the first task."""

from __future__ import annotations

import functools
import time

import msgspec

from bench.lab import Lab, lab
from bench.measurement import Roles, Sample, percentile
from bench.processes import CELERY, FASTQ, Engine, Worker
from bench.rounds import Case
from bench.sizes import Sizes

#: Seconds after the last task before idling is measured: what was started by it shall be over.
CALM_S = 2.0

#: Seconds between two wake-ups, so that all processes sleep again.
PAUSE_S = 0.1


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """An idle worker, and how it woke up."""

    engine: str
    seconds: float
    #: Share of one core, by role.
    core: Roles
    redis_commands_per_s: float
    wakes: int
    wake_p50_ms: float
    wake_p99_ms: float


def idle(engine: Engine, *, idle_s: float, wakes: int) -> Idle:
    """Let a worker idle, then wake it again and again."""
    with lab() as place, place.worker(engine) as worker:
        place.warm(worker, children=2)
        time.sleep(CALM_S)
        core, commands = _idle(place, worker, idle_s=idle_s)
        taken_ms = _wake(place, worker, wakes=wakes)
    return Idle(
        engine=engine.name,
        seconds=idle_s,
        core=core,
        redis_commands_per_s=commands / idle_s,
        wakes=wakes,
        wake_p50_ms=percentile(taken_ms, 50),
        wake_p99_ms=percentile(taken_ms, 99),
    )


def _idle(place: Lab, worker: Worker, *, idle_s: float) -> tuple[Roles, int]:
    before = msgspec.structs.replace(worker.cpu_s(), redis=place.redis_cpu_s())
    commands = place.redis_commands()
    time.sleep(idle_s)
    after = msgspec.structs.replace(worker.cpu_s(), redis=place.redis_cpu_s())
    # Our own two looks at the end are among the commands.
    return (after - before).each(1, unit=idle_s), place.redis_commands() - commands - 2


def _wake(place: Lab, worker: Worker, *, wakes: int) -> list[float]:
    """Push one message at a time and return milliseconds from before the push to the start of the task."""
    sent: dict[int, float] = {}
    for number in range(wakes):
        time.sleep(PAUSE_S)
        sent[number] = time.monotonic()
        place.producer.send("bench.apps.tasks.noop", (number,))
        place.until_executed(number + 1, worker=worker)
    # The ledger's clock ticks every 10 µs and rounds down, so a start can seem to lie a tick too early.
    return [max(0.0, at - sent[number]) * 1e3 for number, at in place.ledger.starts()]


def rest(sizes: Sizes) -> list[Case]:
    """Idle CPU and wake-up."""
    return [
        Case(workload="idle", system=engine.name, run=functools.partial(_samples, engine, sizes), at_most=3)
        for engine in (FASTQ, CELERY)
    ]


def _samples(engine: Engine, sizes: Sizes) -> list[Sample]:
    found = idle(engine, idle_s=sizes.idle_s, wakes=sizes.wakes)
    own = found.core.total - found.core.redis
    extras = {"redis_core": found.core.redis, "redis_commands_per_s": found.redis_commands_per_s}
    return [
        Sample(measure="core", value=own * 100, unit="% of a core", better="lower", extras=extras),
        Sample(measure="wake-p50", value=found.wake_p50_ms, unit="ms", better="lower"),
        Sample(measure="wake-p99", value=found.wake_p99_ms, unit="ms", better="lower"),
    ]
