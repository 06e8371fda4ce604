"""Memory of a worker and of its children: proportional set sizes, so that pages shared after a fork count once."""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec
import psutil

from bench.measurement import Sample
from bench.peers.peer import Peer
from bench.processes import Worker
from bench.workloads.calibration import Calibration, Scale
from bench.workloads.stage import stage

MIB = 1024 * 1024

#: Tasks; or what a system does in so many seconds, if that is less.
TASKS, AT_MOST_S = 100_000, 10.0


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Of a running worker."""

    total_mib: float
    #: Mean of the processes that run tasks; of all where those cannot be told from others.
    child_mib: float

    @classmethod
    def of(cls, worker: Worker) -> Memory:
        """Look at all of its processes."""
        roles = {role: [_pss_mib(one) for one in some] for role, some in worker.processes().items()}
        children = roles["children"] or roles["engine"]
        return cls(total_mib=sum(map(sum, roles.values())), child_mib=sum(children) / len(children))


def _pss_mib(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / MIB
    except psutil.Error:
        return 0.0


def size(peer: Peer, scale: Scale, known: Calibration) -> Iterable[Sample]:
    """A worker that has run something, and the same after 100,000 tasks."""
    rate = known.rate(peer, "stored")
    count = max(1000, int(min(TASKS * scale.part, rate * AT_MOST_S)))
    with stage(peer) as on:
        with on.worker() as worker:
            on.warm(worker)
            time.sleep(0.5)
            idle = Memory.of(worker)
            on.fill("stored", count)
            on.follow(count, worker)
            time.sleep(0.5)
            after = Memory.of(worker)
        found = on.counted(count)
    figures = {
        "idle": idle.total_mib,
        "idle, a child": idle.child_mib,
        "after": after.total_mib,
        "after, a child": after.child_mib,
    }
    for measure, value in figures.items():
        yield Sample(
            measure=measure, value=value, unit="MiB", better="lower", lost=found.lost, repeated=found.repeated,
            extras={"tasks": count},
        )  # fmt: skip
