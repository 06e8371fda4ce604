"""Tasks of both kinds: the application's own, and those of Django's interface."""

import os
import signal
from typing import Any

from django.db import connection

try:
    from django.tasks import signals, task
except ImportError:
    from django_tasks import signals, task

from website.queue import app

from store.models import Order


@app.task
def pack(name: str) -> int:
    """It needs the order to be committed."""
    return int(Order.objects.filter(name=name).update(state="packed"))


@app.task
def had_connection() -> bool:
    """Whether a connection was left by the task before."""
    return connection.connection is not None


@task
def ship(name: str, *, by: str = "bike") -> str:
    """One of Django's."""
    Order.objects.filter(name=name).update(state=f"shipped by {by}")
    return f"{name}: {by}"


@task(takes_context=True, priority=50)
def attempts(context: Any) -> list[Any]:
    """What it is told about itself."""
    return [context.attempt, context.task_result.id, str(context.task_result.status)]


@task
async def later() -> str:
    """A coroutine."""
    return "from a coroutine"


@task
def fail() -> None:
    """It cannot be done."""
    raise ValueError("sold out")


@task
def die() -> None:
    """Its process ends."""
    os.kill(os.getpid(), signal.SIGKILL)


@task
def totals(parts: list[int], *, by: str) -> Any:
    """JSON has no tuples and no bytes."""
    return sum(parts), by.encode()


@task
def watched() -> None:
    """Its signals are looked at."""


def note(sender: Any, task_result: Any, **_fields: Any) -> None:
    """Tell the database of a signal."""
    if task_result.task.name == "watched":
        Order.objects.create(name=f"{sender.__name__} {task_result.status}", state="signalled")


signals.task_started.connect(note)
signals.task_finished.connect(note)
