"""The same tasks in an application of fastq's own, with its own messages (wire="fastq")."""

from __future__ import annotations

import os

from bench.peers import work
from fastq import FastQ

app = FastQ(
    "bench.apps.native",
    broker=work.URL,
    backend=work.URL,
    wire="fastq",
    task_default_queue=work.QUEUE,
    worker_prefetch_multiplier=int(os.environ.get("FASTQ_BENCH_PREFETCH", "256")) if work.TUNED else 4,
)


@app.task(ignore_result=True)
def noop(number: int) -> None:
    """Nothing; no result."""
    work.noop(number)


@app.task
def stored(number: int) -> int:
    """Nothing; the result is stored."""
    return work.stored(number)


@app.task(acks_late=True)
def late(number: int) -> int:
    """Nothing; the result is stored, and the message acknowledged when that is done."""
    return work.stored(number)


@app.task(ignore_result=True)
def nap(number: int, seconds: float) -> None:
    """Wait; no result."""
    work.nap(number, seconds)


if os.environ.get("FASTQ_BENCH_COROUTINES"):
    # An application with a coroutine runs event loops in its children, so the others do without.
    nap_async = app.task(name="bench.apps.native.nap_async", ignore_result=True)(work.nap_async)


@app.task(ignore_result=True)
def spin(number: int, seconds: float) -> None:
    """Compute for so much processor time; no result."""
    work.spin(number, seconds)


@app.task
def blob(number: int, data: str) -> str:
    """Give back what came; the result is stored."""
    return work.blob(number, data)


@app.task
def step(value: int, number: int) -> int:
    """A link of a chain."""
    return work.step(value, number)


@app.task
def total(values: list[int], number: int) -> int:
    """The end of a chord."""
    return work.total(values, number)
