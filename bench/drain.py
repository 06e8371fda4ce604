"""Rows of throughput: a backlog waits, a worker of two children starts and works it off.

The rate is taken between the first and the last execution, CPU time from the first look after the first execution to
shortly after the last, divided by the tasks in between; so start-up is in neither (it has a row of its own).
"""

from __future__ import annotations

import time

import msgspec

from bench.count import Count
from bench.lab import Lab, lab
from bench.line import Line, Sizes, share
from bench.measurement import Roles
from bench.processes import CELERY, FASTQ, Engine, Worker
from bench.proxy import delayed

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


def drain(engine: Engine, *, task: str, count: int, rtt_ms: float = 0.0) -> Drain:
    """Work off a backlog of `count` tasks and check that each ran once."""
    with lab() as place:
        place.fill(task, count)
        if not rtt_ms:
            return _measure(place, place.worker(engine, children=CHILDREN), task=task, count=count)
        with delayed(place.url, rtt_ms=rtt_ms) as url:
            return _measure(place, place.worker(engine, children=CHILDREN, url=url), task=task, count=count)


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


def _words(found: Drain) -> str:
    honest = f", {found.count.lost} lost, {found.count.repeated} repeated"
    return f"{found.rate:,.0f}/s of {found.count.wanted:,}{honest}"


def _whole(found: Drain) -> bool:
    return not found.count.lost and not found.count.repeated


def _ratio(what: str, *, task: str, times: float, sizes: Sizes) -> tuple[Line, Drain]:
    ours = drain(FASTQ, task=task, count=sizes.drain)
    theirs = drain(CELERY, task=task, count=sizes.drain_celery)
    ratio = share(ours.rate, theirs.rate)
    line = Line(
        what=what,
        target=f"{times:g} × Celery",
        fastq=f"**{ratio:.0f} ×**, {_words(ours)}",
        celery=_words(theirs),
        reached=ratio >= times and _whole(ours),
        lost=ours.count.lost,
        repeated=ours.count.repeated,
        evidence={"ratio": ratio, "fastq": ours, "celery": theirs},
    )
    return line, ours


def noop(sizes: Sizes) -> list[Line]:
    """No-op tasks whose results are ignored."""
    return [_ratio("no-op, results ignored", task="noop", times=60, sizes=sizes)[0]]


def late(sizes: Sizes) -> list[Line]:
    """Late acknowledgement, results stored."""
    return [_ratio("`acks_late`, results stored", task="late", times=50, sizes=sizes)[0]]


def stored(sizes: Sizes) -> list[Line]:
    """No-op tasks whose results are stored, and what each role spends on one."""
    line, ours = _ratio("no-op, results stored", task="stored", times=50, sizes=sizes)
    theirs = line.evidence["celery"].cpu_us
    limits = {"redis": 6.0, "engine": 4.0, "children": 8.0}
    costs = [
        Line(
            what=f"CPU per task, results stored: {role}",
            target=f"{limit:g} µs",
            fastq=f"{getattr(ours.cpu_us, role):.1f} µs",
            celery=f"{getattr(theirs, role):.0f} µs",
            reached=getattr(ours.cpu_us, role) <= limit,
        )
        for role, limit in limits.items()
    ]
    return [line, *costs]


def events(sizes: Sizes) -> list[Line]:
    """No-op tasks whose results are stored, with three events for each (`-E`)."""
    ours, theirs = (
        drain(msgspec.structs.replace(engine, tuning=(*engine.tuning, "-E")), task="stored", count=count)
        for engine, count in ((FASTQ, sizes.drain), (CELERY, sizes.drain_celery))
    )
    ratio = share(ours.rate, theirs.rate)
    return [
        Line(
            what="results stored, task events on (`-E`)",
            target="",
            fastq=f"**{ratio:.0f} ×**, {_words(ours)}; engine {ours.cpu_us.engine:.1f}, children "
            f"{ours.cpu_us.children:.1f}, Redis {ours.cpu_us.redis:.1f} µs a task",
            celery=_words(theirs),
            lost=ours.count.lost,
            repeated=ours.count.repeated,
            evidence={"ratio": ratio, "fastq": ours, "celery": theirs},
        )
    ]


def far(sizes: Sizes) -> list[Line]:
    """The same with some distance between worker and Redis, beside the same proxy without any: its CPU comes out of the
    same two cores, which that of a distance would not."""
    near = drain(FASTQ, task="stored", count=sizes.drain)
    beside = drain(FASTQ, task="stored", count=sizes.drain, rtt_ms=NO_MS)
    ours = drain(FASTQ, task="stored", count=sizes.drain, rtt_ms=FAR_MS)
    theirs = drain(CELERY, task="stored", count=max(300, sizes.drain_celery // 10), rtt_ms=FAR_MS)
    ratio = share(ours.rate, beside.rate)
    return [
        Line(
            what=f"results stored, {FAR_MS:g} ms to Redis",
            target="80 % of the rate through the same proxy without delay",
            fastq=f"**{ratio:.0%}**, {_words(ours)}; {share(ours.rate, near.rate):.0%} of the rate without a proxy",
            celery=_words(theirs),
            reached=ratio >= 0.8 and _whole(ours),
            lost=ours.count.lost,
            repeated=ours.count.repeated,
            evidence={"near": near, "beside": beside, "fastq": ours, "celery": theirs},
        )
    ]


def recycled(sizes: Sizes) -> list[Line]:
    """Tasks of a millisecond, with children that are replaced after 1,000 of them, and without."""
    count = max(2000, sizes.drain // 20)
    found = []
    for more in ({}, {"FASTQ_WORKER_MAX_TASKS_PER_CHILD": "1000"}):
        with lab() as place:
            place.fill("brief", count)
            worker = place.worker(FASTQ, children=CHILDREN, more=more)
            found.append(_measure(place, worker, task="brief", count=count))
    without, ours = found
    ratio = share(ours.rate, without.rate)
    return [
        Line(
            what="tasks of 1 ms, children replaced every 1,000 tasks",
            target="95 % of the rate without",
            fastq=f"**{ratio:.0%}**, {_words(ours)}",
            celery="not measured",
            reached=ratio >= 0.95 and _whole(ours),
            lost=ours.count.lost,
            repeated=ours.count.repeated,
            evidence={"without": without, "fastq": ours},
        )
    ]
