"""Tasks that take their child process with them."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Any

from tests.apps.build import TaskTable
from tests.apps.ledger import ledger


def die(self: Any, how: str, token: str = "") -> str:
    """End the child in the way named, at the first run only."""
    if token:
        ledger().write("ran", token)
        if ledger().count("ran", token) > 1:
            return "survived"
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(3)
    elif how == "exit0":
        os._exit(0)
    elif how == "sysexit":
        raise SystemExit(4)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def add_deaths(table: TaskTable) -> None:
    """Register the ways to die with their acknowledgement variants."""
    table.task("t.die", bind=True)(die)
    table.task("t.die_late", bind=True, acks_late=True)(die)
    table.task("t.die_requeue", bind=True, acks_late=True, reject_on_worker_lost=True)(die)
    table.task("t.die_unacked", bind=True, acks_late=True, acks_on_failure_or_timeout=False)(die)


def swell(token: str, mib: int, hold_s: float = 0.0, *, keep: bool = False) -> int:
    """Take memory, hold it for a while, and leak it or not; the child that did."""
    block = bytearray(mib << 20)
    for place in range(0, len(block), 4096):
        block[place] = 1
    if keep:
        LEAKED.append(block)
    ledger().write("grown", token)
    clock_end = time.monotonic() + hold_s
    while time.monotonic() < clock_end:
        time.sleep(0.01)
    ledger().write("end", token)
    return os.getpid()


def swell_stubborn(token: str, mib: int) -> str:
    """Take memory, and more, whatever is said."""
    ledger().write("ran", token)
    blocks = []
    while True:
        try:
            blocks.append(b"x" * (mib << 20))
            time.sleep(0.02)
        except MemoryError:
            ledger().write("told", token)


#: What tasks leave behind.
LEAKED: list[bytearray] = []


def give_up(self: Any) -> None:
    """Fail, and fail again, as often as it may."""
    raise self.retry(exc=CustomError("given up"), countdown=0)


class CustomError(Exception):
    """What it fails with."""


def add_growth(table: TaskTable) -> None:
    """Register the ways to grow."""
    table.task("t.give_up", bind=True, max_retries=1)(give_up)
    table.task("t.swell")(swell)
    table.task("t.swell_late", acks_late=True)(swell)
    table.task("t.swell_stubborn")(swell_stubborn)
    table.task("t.swell_requeue", acks_late=True, reject_on_worker_lost=True)(swell_stubborn)
