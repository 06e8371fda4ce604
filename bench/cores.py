"""Keep server, sender and worker off each other's cores, where there are enough: four or more."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import Literal

#: What runs where. The sender is the process that measures, with whatever it does not start as one of the others.
Role = Literal["server", "sender", "worker"]

#: With fewer, the worker would be left with one core for engine and children: nothing is pinned then.
ENOUGH = 4


def share_out(cores: tuple[int, ...]) -> dict[Role, tuple[int, ...]]:
    """One core for the server, one for the sender, the others for the worker; empty if there are not enough."""
    if len(cores) < ENOUGH:
        return {}
    return {"server": cores[:1], "sender": cores[1:2], "worker": cores[2:]}


@functools.cache
def places() -> dict[Role, tuple[int, ...]]:
    """The cores of each role on this machine. Decided once, before anything is pinned."""
    return share_out(tuple(sorted(os.sched_getaffinity(0))))


def pin(role: Role, pid: int = 0) -> None:
    """Give a process (0: this one), and what it forks from now on, the cores of its role. Nothing without enough."""
    if found := places().get(role):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(pid, found)


def describe() -> str:
    """In words, for the results."""
    if not places():
        return f"not pinned: {len(os.sched_getaffinity(0))} cores, {ENOUGH} are needed"
    return "pinned: " + ", ".join(f"{role} to {','.join(map(str, cores))}" for role, cores in places().items())
