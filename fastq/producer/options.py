"""What can be said about a send besides name and arguments, and which Redis key it leads to."""

from __future__ import annotations

from bisect import bisect
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What separates a queue's name from its priority step in a key. kombu's default.
SEPARATOR = "\x06\x16"

#: kombu's four priority steps; 0 is the bare key and is read first.
PRIORITY_STEPS = (0, 3, 6, 9)


class SendOptions(TypedDict, total=False):
    """The options of a send, named as Celery's `apply_async` names them."""

    queue: str
    priority: int
    countdown: float
    eta: datetime | str
    expires: float | datetime | str
    headers: Mapping[str, Any]
    ignore_result: bool
    task_id: str
    time_limit: float
    soft_time_limit: float
    shadow: str
    argsrepr: str
    kwargsrepr: str
    reply_to: str
    root_id: str
    parent_id: str
    group_id: str
    group_index: int
    retries: int


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one send; an absent one is what Celery writes for a task it knows by name only."""

    queue: str | None = None
    priority: int | None = None
    countdown: float | None = None
    eta: datetime | str | None = None
    expires: float | datetime | str | None = None
    headers: Any = None
    ignore_result: bool | None = None
    task_id: str | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    shadow: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    reply_to: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    group_id: str | None = None
    group_index: int | None = None
    retries: int = 0


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """How queue and priority become a Redis key: transport options that producers and workers must share."""

    prefix: str = ""
    separator: str = SEPARATOR
    steps: tuple[int, ...] = PRIORITY_STEPS

    @classmethod
    def from_options(cls, options: Mapping[str, Any] | None) -> Keys:
        """Read `global_keyprefix`, `sep` and `priority_steps` of `broker_transport_options`."""
        given = options or {}
        return cls(
            prefix=given.get("global_keyprefix") or "",
            separator=given.get("sep", SEPARATOR),
            steps=tuple(sorted(given.get("priority_steps") or PRIORITY_STEPS)),
        )

    def key(self, queue: str, *, priority: int) -> str:
        """Return the list a message of this priority goes to; priorities are held to 0..9, as kombu does."""
        step = self.steps[bisect(self.steps, max(0, min(9, priority))) - 1]
        return f"{self.prefix}{queue}{self.separator}{step}" if step else f"{self.prefix}{queue}"
