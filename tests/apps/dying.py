"""Tasks that take their child process with them."""

from __future__ import annotations

import ctypes
import os
import signal
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
