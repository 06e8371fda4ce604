"""How fast messages can be sent: one by one, many at once, by an asynchronous library. Nobody works them off."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bench.measurement import Sample
from bench.peers.peer import Peer
from bench.workloads.calibration import MOST, Calibration, Scale
from bench.workloads.stage import stage

#: Messages of the first trial.
TRIAL = 200


def sent(do: str) -> Callable[[Peer, Scale, Calibration], Iterable[Sample]]:
    """A workload of sending: `do` is what the client is asked for (send, send_many, fill_async)."""

    def run(peer: Peer, scale: Scale, _known: Calibration) -> Iterable[Sample]:
        with stage(peer, results=False) as on:
            count, taken = TRIAL, 0.0
            # Connections and late imports.
            on.sender.ask(do, task="noop", start=0, count=20, args=[])
            while taken < scale.work_s / 2 and count < MOST:
                count = int(count * min(10.0, scale.work_s / max(0.01, taken))) if taken else count
                on.lab.client.flushdb()
                taken = on.sender.ask(do, task="noop", start=0, count=count, args=[], within_s=300.0)
        yield Sample(
            measure="rate", value=count / taken, unit="messages/s", better="higher", extras={"messages": count}
        )

    return run
