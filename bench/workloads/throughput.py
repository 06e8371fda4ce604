"""A backlog waits, a worker starts and works it off: the rate between the first task and the last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import msgspec

from bench.measurement import Sample
from bench.peers.peer import Peer
from bench.proxy import delayed
from bench.workloads.calibration import BRIEF, Calibration, Scale
from bench.workloads.stage import SETTLE_S, Stage, rate_sample, stage

KIB = 1024

#: Seconds that a backlog for "is the rate flat?" lasts at least, of a system that cannot do a million in that time.
LONG_S = 8.0

BACKLOG = 1_000_000


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What the messages of a backlog ask for."""

    task: str
    args: tuple[Any, ...] = ()
    results: bool = True
    #: Bytes of data in each message.
    size: int = 0
    #: Milliseconds there and back between worker and Redis.
    rtt_ms: float = 0.0
    children: int = 2


def drained(work: Work) -> Callable[[Peer, Scale, Calibration], Iterable[Sample]]:
    """A workload of this work."""
    kind = (*work.args, *([work.rtt_ms] if work.rtt_ms else []))

    def once(peer: Peer, scale: Scale, known: Calibration) -> Sample:
        count = known.count(peer, scale, work.task, *kind, results=work.results, size=work.size)
        sample = drain(peer, work, count)
        known.learn(peer, sample.value, work.task, *kind, results=work.results)
        return sample

    def run(peer: Peer, scale: Scale, known: Calibration) -> Iterable[Sample]:
        sample = once(peer, scale, known)
        if sample.extras["seconds"] < scale.work_s * BRIEF and not work.size:
            sample = once(peer, scale, known)
        return [sample]

    return run


def drain(peer: Peer, work: Work, count: int) -> Sample:
    """Work off a backlog of `count` tasks and check that each ran once."""
    with stage(peer, results=work.results) as on:
        filled_s = on.fill(work.task, count, *work.args)
        near = nullcontext(on.lab.url)
        with delayed(on.lab.url, rtt_ms=work.rtt_ms) if work.rtt_ms else near as url:
            return _drain(on, work, count, url=url, filled_s=filled_s)


def _drain(on: Stage, work: Work, count: int, *, url: str, filled_s: float) -> Sample:
    with on.worker(url=url, children=work.children) as worker:
        on.follow(1, worker, stall_s=30.0)
        already, before = on.lab.ledger.executed(), on.cpu_s(worker)
        on.follow(count, worker)
        time.sleep(SETTLE_S)
        used = on.cpu_s(worker) - before
    cpu_us = used.each(count - already, unit=1e-6)
    return rate_sample(on.counted(count), cpu_us=cpu_us, filled_s=round(filled_s, 3))


def backlog(peer: Peer, scale: Scale, known: Calibration) -> Iterable[Sample]:
    """Is the rate flat? A million messages, or as many as the system does in eight seconds; the last tenth's rate in
    percent of the first tenth's."""
    rate = known.rate(peer, "noop", results=False)
    count = max(1000, int(min(BACKLOG, rate * LONG_S) * scale.part))
    with stage(peer, results=False) as on:
        on.fill("noop", count)
        with on.worker() as worker:
            on.follow(1, worker, stall_s=30.0)
            on.follow(count, worker)
        times = sorted(at for _, at in on.lab.ledger.starts())
        first, last = tenth_rates(times)
        found = on.counted(count)
    yield rate_sample(found, first_tenth=round(first), last_tenth=round(last))
    yield Sample(
        measure="last tenth", value=100 * last / first if first else 0.0, unit="% of the first", better="higher",
        lost=found.lost, repeated=found.repeated, extras={"tasks": count},
    )  # fmt: skip


def tenth_rates(times: list[float]) -> tuple[float, float]:
    """Rates of the second tenth and of the last but one: the very first and last are start-up and end."""
    tenth = len(times) // 10
    if tenth < 2:
        return 0.0, 0.0
    spans = (times[2 * tenth] - times[tenth], times[-tenth] - times[-2 * tenth])
    first, last = (tenth / span if span > 0 else 0.0 for span in spans)
    return first, last
