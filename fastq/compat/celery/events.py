"""Events as Celery's Request tells them, in place of its event dispatcher: texts and fields that are Celery's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.app import trace as celery_trace
from kombu.utils.encoding import safe_repr


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
