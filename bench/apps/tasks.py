"""Tasks that do nothing but write down that they ran, in the ways a task can be acknowledged and answered."""

from __future__ import annotations

import time

from bench.apps.settings import make_app
from bench.ledger import write
from bench.peers import work

app = make_app("bench.apps.tasks")


@app.task(ignore_result=True, trail=False)
def noop(number: int) -> None:
    """Nothing; no result."""
    write(number)


@app.task(trail=False)
def brief(number: int) -> int:
    """Compute for a millisecond; the result is stored."""
    until = time.perf_counter() + 0.001
    while time.perf_counter() < until:
        pass
    write(number)
    return number


@app.task(trail=False)
def stored(number: int) -> int:
    """Nothing; the result is stored."""
    write(number)
    return number


@app.task(trail=False, acks_late=True)
def late(number: int) -> int:
    """Nothing; the result is stored, and the message acknowledged when that is done."""
    write(number)
    return number


@app.task(ignore_result=True, trail=False)
def nap(number: int, seconds: float) -> None:
    """Wait; no result."""
    work.nap(number, seconds)


@app.task(ignore_result=True, trail=False)
def spin(number: int, seconds: float) -> None:
    """Compute for so much processor time; no result."""
    work.spin(number, seconds)


@app.task(trail=False)
def blob(number: int, data: str) -> str:
    """Give back what came; the result is stored."""
    return work.blob(number, data)


@app.task(trail=False)
def step(value: int, number: int) -> int:
    """A link of a chain."""
    return work.step(value, number)


@app.task(trail=False)
def total(values: list[int], number: int) -> int:
    """The end of a chord."""
    return work.total(values, number)
