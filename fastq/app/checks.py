"""Refuse options of a task that mean nothing where it is defined: in a child they would be stumbled over too late."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastq.errors import OptionError

if TYPE_CHECKING:
    from fastq.app.task import TaskOptions

_RATE = re.compile(r"\d+(\.\d+)?(/[smh])?")


def check(options: TaskOptions, *, name: str) -> None:
    """Raises OptionError, which names the task, the option and what was given."""
    for wanted, (fits, names) in _KINDS.items():
        for option in names:
            value = getattr(options, option)
            if value is not None and not fits(value):
                raise OptionError(f"task {name}: {option}={value!r} is to be {wanted}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_backoff(value: Any) -> bool:
    return isinstance(value, bool) or _is_number(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_rate(value: Any) -> bool:
    return isinstance(value, str) and _RATE.fullmatch(value) is not None


def _are_errors(value: Any) -> bool:
    return all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in value)


#: What an option may be, in words and as a test, and the options of this kind.
_KINDS: dict[str, tuple[Callable[[Any], bool], tuple[str, ...]]] = {
    "a number of seconds, 0 or more": (
        _is_number,
        ("time_limit", "soft_time_limit", "expires", "result_expires", "default_retry_delay", "retry_backoff_max"),
    ),
    "True, False or a number of seconds": (_is_backoff, ("retry_backoff",)),
    "an integer, 0 or more": (_is_integer, ("priority", "max_retries")),
    "a text": (_is_text, ("queue",)),
    'a rate such as "10/s", "100/m" or "1000/h"': (_is_rate, ("rate_limit",)),
    "a function": (callable, ("on_success", "on_failure", "on_retry")),
    "kinds of errors: classes, in a tuple": (_are_errors, ("autoretry_for", "dont_autoretry_for")),
}
