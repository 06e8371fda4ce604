"""Wait for a condition with a limit, never for time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds between the first looks; doubled up to LAST_PAUSE_S so that a slow condition costs no CPU.
FIRST_PAUSE_S = 0.002
LAST_PAUSE_S = 0.05


class NotInTime(AssertionError):
    """A condition did not become true within its limit."""


def eventually(check: Callable[[], T], *, within_s: float = 10.0, saying: str = "") -> T:
    """Return the first truthy answer of `check`; an AssertionError of it counts as "not yet"."""
    deadline = time.monotonic() + within_s
    pause_s = FIRST_PAUSE_S
    while True:
        answer, failure = _ask(check)
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise NotInTime(f"not true within {within_s:g} s: {saying or check}; last answer {answer!r}") from failure
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, LAST_PAUSE_S)


def _ask(check: Callable[[], T]) -> tuple[T | None, AssertionError | None]:
    try:
        return check(), None
    except AssertionError as failure:
        return None, failure


def steadily(check: Callable[[], object], *, for_s: float) -> None:
    """Assert that `check` stays truthy for a while: for things that must not happen."""
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        assert check()
        time.sleep(LAST_PAUSE_S)
