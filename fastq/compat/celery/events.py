"""Stand in for Celery's event dispatcher in a child: what Celery's Request tells it goes through the result ring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.app import trace as celery_trace
from kombu.utils.encoding import safe_repr
from kombu.utils.json import dumps

from fastq.program import Door
from fastq.wire.event import event_head

#: What is told at once. Everything else tells of an end, and follows the outcome of the task.
_BEGINNINGS = frozenset({"task-received", "task-started"})


class Eventer:
    """What a request knows as its `eventer`."""

    def __init__(self, *, hostname: str, port: Door) -> None:
        self.port, self.hostname = port, hostname
        self.pen = port.pen(lambda: event_head(hostname, pid=port.engine_pid))

    @property
    def enabled(self) -> bool:
        """Whether events of tasks are sent now."""
        return self.port.telling

    def send(self, kind: str, /, **fields: Any) -> None:
        """Send one event of the task that runs."""
        if self.enabled:
            text = dumps(fields)
            self.port.event(self.pen.write(kind.encode(), text[1:-1].encode()), now=kind in _BEGINNINGS)


def send_received(request: Any) -> None:
    """What Celery's task strategy tells of a message on receipt; for those that the engine cannot read."""
    request.send_event(
        "task-received",
        name=request.name,
        args=request.argsrepr,
        kwargs=request.kwargsrepr,
        root_id=request.root_id,
        parent_id=request.parent_id,
        retries=request.request_dict.get("retries", 0),
        eta=request.eta and request.eta.isoformat(),
        expires=request.expires and request.expires.isoformat(),
    )


def shower(task: Any) -> Callable[[Any], str] | None:
    """Makes the text of a task's results, as Celery's tracer does; None for a task whose events are not sent."""
    if not task.send_events:
        return None

    def show(value: Any) -> str:
        try:
            return str(celery_trace.saferepr(value, task.resultrepr_maxsize))
        except Exception:
            return str(safe_repr(value))

    return show
