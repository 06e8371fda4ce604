"""What a child tells monitors: events of the task that runs, on their way through the result ring."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from fastq.program import Door, Pen
from fastq.wire.brief import brief
from fastq.wire.event import event_head
from fastq.wire.kombu_json import encode_text

#: What is told at once. Everything else tells of an end, and follows the outcome of the task.
_BEGINNINGS = frozenset({"task-received", "task-started"})


class Eventer:
    """Writes the events of one child, in JSON as `encode` makes it."""

    def __init__(self, *, hostname: str, port: Door, encode: Callable[[Any], str] = encode_text) -> None:
        self.port: Door = port
        self.hostname: str = hostname
        self._encode = encode
        self.pen: Pen = port.pen(lambda: event_head(hostname, pid=port.engine_pid))

    @property
    def enabled(self) -> bool:
        """Whether events of tasks are sent now."""
        return self.port.telling

    def at(self, port: Door) -> Eventer:
        """The same, of the task behind another door."""
        found = copy.copy(self)
        found.port = port
        return found

    def send(self, kind: str, /, **fields: Any) -> None:
        """Send one event of the task that runs."""
        if self.enabled:
            text = self._encode(fields)
            self.port.event(self.pen.write(kind.encode(), text[1:-1].encode()), now=kind in _BEGINNINGS)


def shown(value: object) -> str:
    """The text of a result or an error, as monitors show it. Never raises: what values say of themselves is theirs."""
    try:
        return brief(value)
    except Exception:
        return f"<{type(value).__name__} without a text>"
