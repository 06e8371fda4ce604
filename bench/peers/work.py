"""What the tasks do, the same under every system: write the number down once, then whatever the workload wants."""

from __future__ import annotations

import asyncio
import os
import time

from bench.ledger import write

URL = os.environ.get("FASTQ_BENCH_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("FASTQ_BENCH_QUEUE", "bench")

#: "tuned" or "default": with the settings that a system's documentation recommends for speed, or with none.
TUNED = os.environ.get("FASTQ_BENCH_SETTINGS", "tuned") == "tuned"


def noop(number: int) -> None:
    """Nothing."""
    write(number)


def stored(number: int) -> int:
    """Nothing; the result is kept."""
    write(number)
    return number


def nap(number: int, seconds: float) -> None:
    """Wait, as for a database or another service."""
    write(number)
    time.sleep(seconds)


async def nap_async(number: int, seconds: float) -> None:
    """The same in a coroutine."""
    write(number)
    await asyncio.sleep(seconds)


def spin(number: int, seconds: float) -> None:
    """Compute: use so much processor time of the own thread, however long that takes."""
    write(number)
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def blob(number: int, data: str) -> str:
    """Take something large and give it back."""
    write(number)
    return data


def step(value: int, number: int) -> int:
    """A link of a chain: takes what the one before returned."""
    write(number)
    return value + 1


def total(values: list[int], number: int) -> int:
    """The end of a chord: takes what all of its members returned."""
    write(number)
    return sum(values)
