"""One run's surroundings for any system: a Redis and a ledger of its own, a client, workers, and a count at the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from bench.count import Count
from bench.lab import LOOK_S, Lab, lab
from bench.measurement import Roles, Sample
from bench.peers.peer import Peer
from bench.peers.sender import Sender
from bench.peers.sink import sink
from bench.processes import Worker

#: Processes of every worker.
CHILDREN = 2

#: Seconds without any execution after which what is missing is called lost. No system pauses so long without a reason
#: that an operator would call a fault: the longest poll of any is a second.
STALL_S = 12.0

#: Seconds between the last execution and the last look at CPU time, for results and acknowledgements on their way.
SETTLE_S = 0.15

#: Seconds a worker that has nothing left to do gets to stop in order, before its processes are killed. How systems stop
#: is a workload of its own.
BRIEF_S = 0.5


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What a workload needs. Everything in it ends with the block."""

    peer: Peer
    lab: Lab
    sender: Sender
    variables: dict[str, str]
    #: Where agents report to.
    sink: str = ""
    #: What ends with it.
    open: contextlib.ExitStack
    #: The one worker that lives as long as the stage, in a list; none until it is asked for.
    workers: list[Worker] = []
    #: What it was made for: see `stage`.
    key: tuple[str, bool, bool]

    def worker(self, *, children: int = CHILDREN, url: str = "") -> Worker:
        """A worker of the system, not started yet."""
        more = {name: value.format(url=url or self.lab.url, sink=self.sink) for name, value in self.variables.items()}
        return self.lab.worker(self.peer, app=self.peer.app, children=children, url=url, more=more, stop_s=BRIEF_S)

    def live(self) -> None:
        """Have a worker that runs and is warm, for as long as the stage stays: it has to be a `lively` one."""
        if not self.workers:
            worker = self.open.enter_context(self.worker())
            self.workers.append(worker)
            self.warm(worker)

    def fill(self, task: str, count: int, *args: Any, start: int = 0) -> float:
        """Put a backlog on the queue; returns when Redis has all of it, with the seconds it took."""
        return float(self.sender.ask("fill", task=task, start=start, count=count, args=list(args), within_s=600.0))

    def follow(self, count: int, worker: Worker, *, stall_s: float = STALL_S) -> int:
        """Wait until so many executions are written down, or until nothing moves any more; return how many."""
        seen, moved = -1, time.monotonic()
        while (now := self.lab.ledger.executed()) < count and time.monotonic() - moved < stall_s:
            if now != seen:
                seen, moved = now, time.monotonic()
            worker.check()
            time.sleep(LOOK_S)
        return now

    def warm(self, worker: Worker, *, count: int = 200) -> None:
        """Let it run something, a second's work at most, then forget that it did."""
        count = min(count, self.peer.guess)
        self.fill("noop", count)
        if self.follow(count, worker, stall_s=30.0) < count:
            raise TimeoutError(f"{self.peer.label} did not finish {count} tasks to warm up")
        time.sleep(0.3)
        self.lab.forget()

    def cpu_s(self, worker: Worker) -> Roles:
        """CPU seconds so far by role."""
        return msgspec.structs.replace(worker.cpu_s(), redis=self.lab.redis_cpu_s())

    def counted(self, wanted: int) -> Count:
        """Check every number. Only after the workers have stopped it is certain that nothing is run twice."""
        return self.lab.ledger.count(wanted)


@contextlib.contextmanager
def stage(peer: Peer, *, results: bool = True, lively: bool = False) -> Iterator[Stage]:
    """A stage with an empty Redis and a client that is ready. Raises RuntimeError if the system is not installed.

    It stays for the next run that asks for the same one: emptied, or, if it is `lively`, with the worker that it has. A
    run that fails leaves nothing to the next. `clear_away` ends what has stayed.
    """
    if peer.missing:
        raise RuntimeError(peer.missing)
    on = _again((peer.label, results, lively)) or _new(peer, results=results, lively=lively)
    try:
        yield on
    except BaseException:
        on.open.close()
        raise
    clear_away()
    _staying.append(on)


#: The stage of the run before, if there is one.
_staying: list[Stage] = []


def clear_away() -> None:
    """End what the last run has left for the next."""
    while _staying:
        _staying.pop().open.close()


def _again(key: tuple[str, bool, bool]) -> Stage | None:
    if not _staying or _staying[0].key != key:
        clear_away()
        return None
    on = _staying.pop()
    on.lab.forget()
    if not on.workers:
        on.lab.client.flushall()
        on.sender.ask("cleared")
    return on


def _new(peer: Peer, *, results: bool, lively: bool) -> Stage:
    variables = {**peer.variables, "FASTQ_BENCH_RESULTS": "on" if results else "off"}
    watched = any("{sink}" in value for value in variables.values())
    with contextlib.ExitStack() as opened:
        place = opened.enter_context(lab())
        reports = opened.enter_context(sink()) if watched else ""
        environment = {**place.environment(place.url), **variables}
        sender = Sender(peer, environment=environment, log=place.folder / "client.log")
        return Stage(
            peer=peer,
            lab=place,
            sender=opened.enter_context(sender),
            variables=variables,
            sink=reports,
            open=opened.pop_all(),
            key=(peer.label, results, lively),
        )


def rate_sample(found: Count, *, cpu_us: Roles | None = None, **extras: Any) -> Sample:
    """Tasks per second between the first start and the last."""
    return Sample(
        measure="rate",
        value=found.rate,
        unit="tasks/s",
        better="higher",
        lost=found.lost,
        repeated=found.repeated,
        cpu_us=cpu_us,
        extras={"tasks": found.wanted, "seconds": round(found.span_s, 3), **extras},
    )
