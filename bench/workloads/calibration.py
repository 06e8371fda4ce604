"""Find out how many tasks keep a system busy for some seconds, so that slow and fast ones are measured for as long."""

from __future__ import annotations

from typing import Any

import msgspec

from bench.peers.peer import Peer
from bench.workloads.stage import CHILDREN, stage

#: A trial counts when it took so long; shorter ones say how many to try next.
TRIAL_S = 0.25

#: Tasks of the first trial, and how many times as many the next one has at most.
FIRST, GROWTH = 40, 10

#: Messages of one backlog at most, and bytes: Redis and this machine hold them.
MOST, MOST_BYTES = 2_000_000, 256 * 1024 * 1024


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How long things are done."""

    name: str
    #: Seconds of work of one run.
    work_s: float
    #: Calls, one after the other, at most; and the seconds they may take.
    calls: int
    #: Of a workload that has a size in its name (100,000 countdowns), the part that is done.
    part: float
    #: Seconds after a kill -9 in which nothing runs, at most, before what is missing is called lost.
    gone_s: float


FULL = Scale(name="full", work_s=0.8, calls=1000, part=1.0, gone_s=75.0)
QUICK = Scale(name="full-quick", work_s=0.3, calls=50, part=0.02, gone_s=8.0)

#: Of the rate of no-op tasks, what is left with results; and bytes of payload that come and go in a second.
STORED, BYTES_PER_S = 0.6, 60e6

#: A run that takes a smaller part of the time it should is not one to keep, and is made again with more tasks.
BRIEF = 0.4


class Calibration:
    """Rates of systems by kind of work: reckoned from one trial of each system, and known once it has been measured."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, ...], float] = {}

    def rate(self, peer: Peer, task: str, *args: Any, results: bool = True, size: int = 0) -> float:
        """Tasks a second, about."""
        known = self._rates.get(_key(peer, task, args, results=results))
        if known is not None:
            return known
        trial = _key(peer, "noop", (), results=False)
        if trial not in self._rates:
            self._rates[trial] = _try(peer)
        return reckoned(self._rates[trial], peer, task, args, size=size)

    def count(self, peer: Peer, scale: Scale, task: str, *args: Any, results: bool = True, size: int = 0) -> int:
        """How many tasks make `scale.work_s` seconds of work. `size`: bytes of one message's data."""
        most = min(MOST, MOST_BYTES // size) if size else MOST
        rate = self.rate(peer, task, *args, results=results, size=size)
        return max(20, min(most, int(rate * scale.work_s)))

    def learn(self, peer: Peer, rate: float, task: str, *args: Any, results: bool = True) -> None:
        """A real run knows better than a trial."""
        if rate > 0:
            self._rates[_key(peer, task, args, results=results)] = rate


def _key(peer: Peer, task: str, args: tuple[Any, ...], *, results: bool) -> tuple[str, ...]:
    return (peer.label, task, repr(args), str(results))


def reckoned(rate: float, peer: Peer, task: str, args: tuple[Any, ...], *, size: int) -> float:
    """Tasks a second of some work, from the rate of no-op tasks: where the first run of it starts from.

    `args`: those of the task; of `stored`, milliseconds to Redis and back. `live`: sent while they are run.
    """
    if task in ("nap", "nap_async"):
        return min(rate, peer.slots * CHILDREN / float(args[0]))
    if task == "live":
        return rate / 4
    if task == "spin":
        return min(rate, CHILDREN / float(args[0]))
    if task == "stored" and args:
        return rate * STORED / (1.0 + float(args[0]))
    return min(rate * STORED, BYTES_PER_S / size) if size else rate * STORED


def next_trial(count: int, seconds: float) -> int:
    """How many to try after a trial of `count` that took `seconds`; 0 if it was long enough."""
    if seconds >= TRIAL_S:
        return 0
    return min(count * GROWTH, max(2 * count, int(count / max(seconds, 1e-3) * TRIAL_S * 2)))


def _try(peer: Peer) -> float:
    """Give a running worker more and more until it is busy for a moment; return tasks per second."""
    with stage(peer, results=False) as on, on.worker() as worker:
        on.warm(worker)
        count, rate = FIRST, float(peer.guess)
        while count and count <= MOST:
            on.fill("noop", count)
            on.follow(count, worker)
            found = on.counted(count)
            rate = found.rate or rate
            on.lab.forget()
            count = next_trial(count, found.span_s)
        return rate
