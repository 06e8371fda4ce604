"""Count executions: each task writes its number once, and the reader tells what was lost or repeated.

Each process appends to a file of its own; a record is 8 bytes, number and time, in one write. That costs a task
between one and two microseconds, the same under either engine, and is part of every figure. Files are read while
they grow (`bench/count.py`); what a killed process wrote is in them. Tasks import this module, so it imports little.
"""

from __future__ import annotations

import functools
import os
import struct
import time
from pathlib import Path

#: Number, and the monotonic clock in units of 10 µs, modulo 2**32 (twelve hours).
RECORD = struct.Struct("<II")

TICK_NS = 10_000
WRAP = 1 << 32

_pack = RECORD.pack


@functools.cache
def _file() -> int:
    """This process's file. Opened by its first task, so after the fork."""
    path = Path(os.environ["FASTQ_BENCH_LEDGER"]) / f"{os.getpid()}.led"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def write(number: int) -> None:
    """Write down that the task of this number started now."""
    os.write(_file(), _pack(number, time.monotonic_ns() // TICK_NS % WRAP))
