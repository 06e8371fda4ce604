"""How long one task takes: calls and their results, at a steady pace, behind long tasks, ahead of a backlog."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from bench.count import Count
from bench.measurement import Sample, percentile
from bench.peers.peer import Peer
from bench.processes import Worker
from bench.workloads.calibration import Calibration, Scale
from bench.workloads.stage import Stage, stage

#: Calls before the clock starts: connections, first imports, warm caches. Few, since some systems poll twice a second.
WARM_UP = 6

#: Seconds that calls may take in one run: slow systems make fewer.
CALLS_S = 1.2

#: Calls in flight.
TOGETHER = 100

#: Shares of a system's own maximum at which it is sent to at a steady pace.
SHARES = (10, 50, 80)

#: Quantiles of a latency, in percent.
QUANTILES = (50.0, 99.0, 99.9)

#: Milliseconds that long tasks take, and short ones among them; one in so many is long.
LONG_MS, SHORT_MS, ONE_IN = 100, 1, 20

#: Urgent messages, 20 ms apart, behind a backlog of tasks of a millisecond's computing.
URGENT = 60


def quantiles(values_s: list[float], *, prefix: str = "", found: Count | None = None, **extras: object) -> list[Sample]:
    """Samples of each quantile, in milliseconds."""
    return [
        Sample(
            measure=f"{prefix}p{quantile:g}",
            value=percentile(values_s, quantile) * 1e3,
            unit="ms",
            better="lower",
            lost=found.lost if found else 0,
            repeated=found.repeated if found else 0,
            extras={"tasks": len(values_s), **extras},
        )
        for quantile in QUANTILES
    ]


def calls(peer: Peer, scale: Scale, _known: Calibration) -> Iterable[Sample]:
    """`delay().get()`, one after the other."""
    with stage(peer, lively=True) as on:
        on.live()
        first = on.sender.ask("calls", start=0, count=WARM_UP)
        count = _affordable(first, scale)
        taken = on.sender.ask("calls", start=WARM_UP, count=count)
        found = on.counted(WARM_UP + count)
    return quantiles(taken, found=found)


def _affordable(taken_s: list[float], scale: Scale) -> int:
    return max(10, min(scale.calls, int(min(CALLS_S, scale.work_s * 2) / max(1e-4, statistics.median(taken_s)))))


def together(peer: Peer, scale: Scale, _known: Calibration) -> Iterable[Sample]:
    """`delay()` a hundred times, then `get()` all of them; calls per second."""
    with stage(peer, lively=True) as on:
        on.live()
        (first,) = on.sender.ask("calls_together", start=0, sets=1, each=TOGETHER)
        sets = max(3, min(scale.calls // 10, int(scale.work_s / max(1e-3, first))))
        taken = on.sender.ask("calls_together", start=TOGETHER, sets=sets, each=TOGETHER)
        found = on.counted(TOGETHER * (1 + sets))
    value = TOGETHER * sets / sum(taken)
    yield Sample(
        measure="rate", value=value, unit="calls/s", better="higher", lost=found.lost, repeated=found.repeated,
        extras={"sets": sets},
    )  # fmt: skip


def echoed(size: int) -> Callable[[Peer, Scale, Calibration], Iterable[Sample]]:
    """A workload of calls that carry `size` bytes there and back."""

    def run(peer: Peer, scale: Scale, _known: Calibration) -> Iterable[Sample]:
        with stage(peer, lively=True) as on:
            on.live()
            count = _affordable(on.sender.ask("echo", start=0, count=5, size=size), scale)
            taken = on.sender.ask("echo", start=5, count=count, size=size)
            found = on.counted(5 + count)
        return quantiles(taken, found=found)[:2]

    return run


def steady(peer: Peer, scale: Scale, known: Calibration) -> Iterator[Sample]:
    """An open loop: messages are sent at a steady pace, at shares of the most that the system reaches while its own
    client sends on the same machine. Latency is from the moment a message was planned for to the start of its task."""
    about = known.rate(peer, "live")
    with stage(peer, results=False) as on, on.worker() as worker:
        on.warm(worker)
        most = _saturate(on, worker, scale, about)
        known.learn(peer, most, "live")
        yield Sample(measure="most", value=most, unit="tasks/s", better="higher")
        for share in SHARES:
            rate = most * share / 100
            plan = on.sender.ask("open_loop", task="noop", start=0, rate=rate, seconds=scale.work_s)
            on.follow(plan["count"], worker)
            late = late_s(on.lab.ledger.starts(), began=plan["began"], rate=rate)
            found = on.counted(plan["count"])
            on.lab.forget()
            extras = {"rate": round(rate), "sender_late_ms": round(plan["late"] * 1e3, 2)}
            yield from quantiles(late, prefix=f"{share} % ", found=found, **extras)


def _saturate(on: Stage, worker: Worker, scale: Scale, about: float) -> float:
    """Send flat out while the worker runs; return tasks per second from the first send to the last start."""
    count, taken = int(max(400, about * scale.work_s / 2)), 0.0
    while taken < scale.work_s / 2:
        count = int(count * min(8.0, scale.work_s / max(0.05, taken))) if taken else count
        began = time.monotonic()
        on.fill("noop", count)
        on.follow(count, worker)
        taken = max((at for _, at in on.lab.ledger.starts()), default=began) - began
        on.lab.forget()
    return count / taken


def late_s(starts: Iterable[tuple[int, float]], *, began: float, rate: float) -> list[float]:
    """How long after its planned moment each number started, seconds. What ran twice counts once, the first time.

    The ledger's clock rounds down to 10 µs, so a start can seem to lie a little too early.
    """
    first: dict[int, float] = {}
    for number, at in starts:
        first[number] = min(at, first.get(number, at))
    return [max(0.0, at - (began + number / rate)) for number, at in first.items()]


def mixed(peer: Peer, scale: Scale, _known: Calibration) -> Iterable[Sample]:
    """Short tasks among long ones (1 ms, and one in twenty of 100 ms), sent at half of what the slots can do: how long
    a short one waits. A worker that hands tasks out in advance makes short ones wait behind a long one."""
    slots = peer.slots * 2
    each_s = (LONG_MS + (ONE_IN - 1) * SHORT_MS) / ONE_IN / 1e3
    rate = min(300.0, slots / each_s / 2)
    with stage(peer, results=False) as on:
        with on.worker() as worker:
            on.warm(worker)
            plan = on.sender.ask("open_mix", start=0, rate=rate, seconds=scale.work_s * 2, **_mix())
            on.follow(plan["count"], worker)
        starts = [(number, at) for number, at in on.lab.ledger.starts() if number % ONE_IN]
        found = on.counted(plan["count"])
    return quantiles(late_s(starts, began=plan["began"], rate=rate), found=found, rate=round(rate))


def _mix() -> Mapping[str, float]:
    return {"one_in": ONE_IN, "long_s": LONG_MS / 1e3, "short_s": SHORT_MS / 1e3}


def urgent(peer: Peer, scale: Scale, known: Calibration) -> Iterable[Sample]:
    """Urgent messages while a backlog of tasks of 1 ms waits: how long until they start."""
    count = int(known.rate(peer, "spin", 0.001, results=False) * (URGENT * 0.02 + 1.5))
    with stage(peer, results=False) as on:
        on.sender.ask("fill_last", task="spin", start=URGENT, count=count, args=[0.001])
        with on.worker() as worker:
            on.follow(count // 20, worker)
            sent = on.sender.ask("urgent", task="noop", start=0, count=URGENT, args=[])
            behind = count - on.lab.ledger.executed()
            on.follow(URGENT + count, worker)
        starts = {number: at for number, at in on.lab.ledger.starts() if number < URGENT}
        found = on.counted(URGENT + count)
    late = [max(0.0, starts[number] - at) for number, at in enumerate(sent) if number in starts]
    return quantiles(late, found=found, backlog=count, left_behind=behind)[:2]
