"""Rows of throughput with wire="fastq": the same tasks, sent as MessagePack; beside Celery, on its only wire."""

from __future__ import annotations

from bench.drain import drain, sample
from bench.measurement import Sample
from bench.processes import CELERY, FASTQ, Engine
from bench.rounds import Case
from bench.sizes import Sizes
from fastq.producer.options import Wire


def packed(sizes: Sizes) -> list[Case]:
    """No-op tasks, results ignored and stored."""
    return [case for task in ("noop", "stored") for case in _side_by_side(task, sizes=sizes)]


def _side_by_side(task: str, *, sizes: Sizes) -> list[Case]:
    return [
        _case(FASTQ, task=task, count=sizes.drain, wire="fastq"),
        _case(CELERY, task=task, count=sizes.drain_celery, wire="celery"),
    ]


def _case(engine: Engine, *, task: str, count: int, wire: Wire) -> Case:
    def run() -> list[Sample]:
        return [sample(drain(engine, task=task, count=count, wire=wire))]

    return Case(workload=f"{task}-packed", system=engine.name, run=run)
