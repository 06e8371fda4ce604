"""Tasks that are not due yet: what many of them cost, and how late they start."""

from __future__ import annotations

import time
from collections.abc import Iterable

from bench.measurement import Sample
from bench.peers.peer import Peer
from bench.processes import Worker
from bench.workloads.calibration import Calibration, Scale
from bench.workloads.latency import quantiles
from bench.workloads.memory import Memory
from bench.workloads.stage import Stage, stage

#: Messages that wait; a client that is slow sends what it can in so many seconds.
WAITING, SENDING_S = 100_000, 10.0

#: Seconds that they wait: longer than any run.
FAR_OFF_S = 3600.0

#: Slices, so many seconds apart, in which the tasks become due whose drift is looked at.
SLICES, APART_S = 20, 0.1

#: A worker has taken what it wants of the messages that wait when it uses less than so much of a core; looked at this
#: often, and waited for so long at most.
CALM, LOOK_S, CALM_WITHIN_S = 0.05, 0.5, 40.0

#: Tasks a second that become due: the same for all, unless that is more than this share of a system's most. It is about
#: being on time, not about many at once.
AT_MOST, SHARE = 100.0, 0.3


def countdowns(peer: Peer, scale: Scale, known: Calibration) -> Iterable[Sample]:
    """100,000 tasks with a countdown of an hour: memory of the worker. Then some that become due within two seconds, a
    hundred a second: how late they start."""
    rate = known.rate(peer, "noop", results=False)
    with stage(peer, results=False) as on:
        with on.worker() as worker:
            on.warm(worker)
            before = Memory.of(worker)
            waiting, sent_per_s = _send_far_off(on, int(WAITING * scale.part))
            _wait_until_calm(worker)
            after = Memory.of(worker)
            count = max(SLICES, int(min(AT_MOST, rate * SHARE) * SLICES * APART_S))
            due = _send_due(on, count, ahead_s=1.0 + 1.5 * count / sent_per_s)
            time.sleep(max(0.0, min(due.values()) - time.monotonic()))
            on.follow(len(due), worker)
        late = [max(0.0, at - due[number]) for number, at in on.lab.ledger.starts() if number in due]
        found = on.counted(len(due))
    yield Sample(
        measure="memory", value=after.total_mib - before.total_mib, unit="MiB more", better="lower",
        extras={"waiting": waiting, "total_mib": round(after.total_mib, 1)},
    )  # fmt: skip
    yield from quantiles(late, prefix="late ", found=found)[:2]


def _send_far_off(on: Stage, count: int) -> tuple[int, float]:
    """Send messages for much later, for some seconds at most; return how many, and how many a second."""
    due, trial, far = time.monotonic() + FAR_OFF_S, min(count, 200), 10_000_000
    taken = on.sender.ask("fill_later", task="noop", start=far, count=trial, args=[], due=due)
    more = min(count - trial, int(trial / taken * SENDING_S))
    if more:
        taken = on.sender.ask(
            "fill_later", task="noop", start=far + trial, count=more, args=[], due=due, within_s=300.0
        )
    return trial + more, (more or trial) / taken


def _wait_until_calm(worker: Worker) -> None:
    """Wait until the worker has little to do, or for some time."""
    deadline, used = time.monotonic() + CALM_WITHIN_S, worker.cpu_s().total
    while time.monotonic() < deadline:
        time.sleep(LOOK_S)
        before, used = used, worker.cpu_s().total
        if used - before < CALM * LOOK_S:
            return


def _send_due(on: Stage, count: int, *, ahead_s: float) -> dict[int, float]:
    """Send messages that become due soon, in slices, the first in `ahead_s`; return when each is due."""
    each, found, began = count // SLICES, {}, time.monotonic() + ahead_s
    for part in range(SLICES):
        due, start = began + part * APART_S, part * each
        on.sender.ask("fill_later", task="noop", start=start, count=each, args=[], due=due)
        found.update(dict.fromkeys(range(start, start + each), due))
    return found
