"""Chains, groups and chords, of the systems that have them: from the call to the result of all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bench.measurement import Sample, percentile
from bench.peers.peer import Peer
from bench.workloads.calibration import Calibration, Scale
from bench.workloads.stage import stage

Run = Callable[[Peer, Scale, Calibration], Iterable[Sample]]

#: Seconds a workflow may take, with all of its sending.
WITHIN_S = 240.0

CHAIN = 10

#: Chains before the clock starts, and measured at least.
FEW = 3


def chain(peer: Peer, scale: Scale, _known: Calibration) -> Iterable[Sample]:
    """Chains of ten links, one chain after the other."""
    with stage(peer, lively=True) as on:
        on.live()
        quickest = min(on.sender.ask("chain", start=0, count=FEW, length=CHAIN))
        count = max(FEW, min(scale.calls // 5, int(scale.work_s / quickest)))
        taken = on.sender.ask("chain", start=FEW * CHAIN, count=count, length=CHAIN)
        found = on.counted(CHAIN * (FEW + count))
    yield Sample(
        measure="p50", value=percentile(taken, 50) * 1e3, unit="ms", better="lower", lost=found.lost,
        repeated=found.repeated, extras={"chains": count},
    )  # fmt: skip


def _whole(what: str, size: int, *, ends: int) -> Run:
    def run(peer: Peer, scale: Scale, _known: Calibration) -> Iterable[Sample]:
        count = max(10, int(size * scale.part)) if size > 100 else size
        with stage(peer, lively=True) as on:
            on.live()
            on.sender.ask(what, start=0, count=10, within_s=WITHIN_S)
            on.lab.forget()
            taken = on.sender.ask(what, start=0, count=count, within_s=WITHIN_S)
            found = on.counted(count + ends)
        yield Sample(
            measure="time", value=taken * 1e3, unit="ms", better="lower", lost=found.lost, repeated=found.repeated,
            extras={"tasks": count + ends},
        )  # fmt: skip

    return run


def group(size: int) -> Run:
    """A workload of one group and all of its results."""
    return _whole("group", size, ends=0)


def chord(size: int) -> Run:
    """A workload of one chord and the result of its end."""
    return _whole("chord", size, ends=1)
