"""A worker of Celery and one of fastq on the same queue, as during a change from one to the other."""

from __future__ import annotations

from collections.abc import Iterable

from bench.measurement import Sample
from bench.peers import celery
from bench.peers.peer import Peer
from bench.workloads.calibration import Calibration, Scale
from bench.workloads.stage import rate_sample, stage


def mixed(peer: Peer, scale: Scale, known: Calibration) -> Iterable[Sample]:
    """Both work off one backlog; every task is counted, and who ran how many."""
    count = known.count(peer, scale, "stored")
    with stage(peer) as on:
        beside = on.lab.worker(celery.TUNED, app=celery.TUNED.app, more=dict(celery.TUNED.variables))
        with beside, on.worker() as worker:
            # Celery starts more slowly: both are to be there before there is anything to do.
            on.warm(worker, count=2000)
            theirs = {one.pid for one in beside.processes()["children"]}
            on.fill("stored", count)
            on.follow(count, worker)
        by_celery = sum(on.lab.ledger.executed_by(pid) for pid in theirs)
        found = on.counted(count)
    yield rate_sample(found, by_celery=by_celery)
