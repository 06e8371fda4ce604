"""Tasks that do nothing but write down that they ran, in the ways a task can be acknowledged and answered."""

from __future__ import annotations

import time

from bench.apps.settings import make_app
from bench.ledger import write

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
