"""Start, kill and stop a worker: how soon it works, what a kill -9 costs, how it ends at full load."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable

from bench.measurement import Sample
from bench.peers.peer import Peer
from bench.processes import Worker
from bench.workloads.calibration import Calibration, Scale
from bench.workloads.stage import Stage, stage

#: Seconds without an execution after which what was killed is called lost, of systems that do not look for the dead
#: once a minute or more often (`Peer.returns_s`).
GONE_S = 8.0

#: Seconds a worker gets to stop at full load before it is killed.
STOP_S = 20.0


def started(peer: Peer, _scale: Scale, _known: Calibration) -> Iterable[Sample]:
    """A message waits, a worker is started, the clock stops when the task starts."""
    with stage(peer) as on:
        on.fill("noop", 1)
        began = time.monotonic()
        with on.worker() as worker:
            on.follow(1, worker, stall_s=30.0)
        starts = on.lab.ledger.starts()
        found = on.counted(1)
    if not starts:
        raise TimeoutError(f"{peer.label} did not start a task within 30 s")
    value = starts[0][1] - began
    yield Sample(measure="first task", value=value, unit="s", better="lower", lost=found.lost, repeated=found.repeated)


def killed(task: str) -> Callable[[Peer, Scale, Calibration], Iterable[Sample]]:
    """A workload of kill -9 for the whole worker in the middle of a backlog, and another one right after."""

    def run(peer: Peer, scale: Scale, known: Calibration) -> Iterable[Sample]:
        count = known.count(peer, scale, task, results=task != "noop")
        gone_s = _gone_s(peer, scale)
        with stage(peer, results=task != "noop") as on:
            on.fill(task, count)
            with on.worker() as worker:
                on.follow(count // 3, worker)
                worker.kill()
            done, began = on.lab.ledger.executed(), time.monotonic()
            with on.worker() as worker:
                back = done == count or on.follow(done + 1, worker, stall_s=gone_s) > done
                resumed = time.monotonic() - began
                if back:
                    on.follow(count, worker, stall_s=gone_s)
                whole = max(0.0, _last_s(on) - began)
            found = on.counted(count)
        extras = {"tasks": count, "done_before": done, "resumed": back, "finished_s": round(whole, 2)}
        yield Sample(
            measure="resumed after", value=resumed, unit="s", better="lower", lost=found.lost, repeated=found.repeated,
            extras=extras,
        )  # fmt: skip

    return run


def child_killed(peer: Peer, scale: Scale, known: Calibration) -> Iterable[Sample]:
    """kill -9 for one child in the middle of a backlog: the time that the rest takes, and what is lost. A worker that
    ends because of it is started again, as a service manager does."""
    count = known.count(peer, scale, "spin", 0.001, results=False)
    with stage(peer, results=False) as on:
        on.fill("spin", count, 0.001)
        with on.worker() as worker:
            on.follow(count // 3, worker)
            began = time.monotonic()
            _kill_one(worker)
            ended = _ends(on, count, worker, stall_s=_gone_s(peer, scale))
        if ended:
            with on.worker() as worker:
                on.follow(count, worker, stall_s=_gone_s(peer, scale))
        taken = max(0.0, _last_s(on) - began)
        found = on.counted(count)
    yield Sample(
        measure="finished after", value=taken, unit="s", better="lower", lost=found.lost, repeated=found.repeated,
        extras={"tasks": count, "worker_ended": ended},
    )  # fmt: skip


def _kill_one(worker: Worker) -> None:
    children = worker.processes()["children"]
    if not children:
        raise RuntimeError("its worker has one process only")
    os.kill(children[0].pid, signal.SIGKILL)


def _gone_s(peer: Peer, scale: Scale) -> float:
    """Seconds without an execution after which what is missing is called lost."""
    return min(scale.gone_s, peer.returns_s or GONE_S)


def _ends(on: Stage, count: int, worker: Worker, *, stall_s: float) -> bool:
    """Follow a worker to the end of its work; return whether it ended itself before."""
    try:
        on.follow(count, worker, stall_s=stall_s)
    except RuntimeError:
        return True
    return False


def _last_s(on: Stage) -> float:
    """When the last task started, on the monotonic clock."""
    return max((at for _, at in on.lab.ledger.starts()), default=0.0)


def stopped(peer: Peer, scale: Scale, known: Calibration) -> Iterable[Sample]:
    """TERM in the middle of a backlog of tasks of 1 ms: seconds until all of its processes are gone; another worker
    then does the rest, and everything is counted."""
    count = known.count(peer, scale, "spin", 0.001, results=False)
    with stage(peer, results=False) as on:
        on.fill("spin", count, 0.001)
        with on.worker() as worker:
            on.follow(count // 3, worker)
            began = time.monotonic()
            worker.stop(within_s=STOP_S)
            taken = time.monotonic() - began
        with on.worker() as worker:
            on.follow(count, worker, stall_s=_gone_s(peer, scale))
        found = on.counted(count)
    yield Sample(
        measure="stopped after", value=taken, unit="s", better="lower", lost=found.lost, repeated=found.repeated,
        extras={"tasks": count, "killed": taken >= STOP_S},
    )  # fmt: skip
