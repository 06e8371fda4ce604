"""A lock around what is imported on first use, for which every fork waits.

A child that is forked in the middle of another thread's import finds that import begun, and nobody who will end it:
its own first send would wait forever.
"""

from __future__ import annotations

import logging  # noqa: F401  # forks take its lock, too, and the hooks of those who come last are called first
import os
import threading

#: Seconds that a fork waits at most: some import may wait for a lock that the forking thread has.
LONGEST_S = 2.0

#: Held while something is imported and made on first use. A handler of signals may fork within: it can be taken twice.
FIRST_USE: threading.RLock = threading.RLock()

_taken: list[bool] = []


def _before() -> None:
    _taken.append(FIRST_USE.acquire(timeout=LONGEST_S))


def _after() -> None:
    if _taken.pop():
        FIRST_USE.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
