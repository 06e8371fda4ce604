"""Honour a Request class of the application's own (`Task.Request`), as far as Celery's prefork worker does.

Celery's own class needs none of this: what it would do in the worker's main process is the engine's.
"""

from __future__ import annotations

import os
from typing import Any

from celery.utils.imports import symbol_by_name
from celery.worker.request import Request

from fastq import clock

#: What Celery calls in its main process for reasons of its own pool and of remote control.
_UNHEARD = ("terminate", "cancel", "execute", "info", "humaninfo", "send_event")


def overrides(request: Any, name: str) -> bool:
    """Whether the class of this request has a method of its own of that name."""
    return getattr(type(request), name) is not getattr(Request, name)


def tell_accepted(request: Any) -> None:
    """This process has started the task: an `on_accepted` of the application's own is called, or monitors are told."""
    if overrides(request, "on_accepted"):
        request.on_accepted(os.getpid(), clock.monotonic_ns() / 1e9)
    else:
        request.send_event("task-started")


def tell_soft_limit(request: Any, limit_s: float | None) -> None:
    """Call an `on_timeout` of the application's own for a soft limit. Celery's only logs, which the engine has done.

    Not when the limit hits but when the task has ended: here both share a thread, and what the task holds a lock of,
    the method may want.
    """
    if overrides(request, "on_timeout"):
        request.on_timeout(True, request.time_limits[1] or request.task.soft_time_limit or limit_s)


def is_revoked(request: Any) -> bool:
    """Ask a `revoked` of the application's own; Celery's only if the task can have expired meanwhile."""
    return bool((request.expires or overrides(request, "revoked")) and request.revoked())


def unheard(app: Any) -> list[str]:
    """Methods of Request classes of the application's own that nobody calls here, one line each."""
    classes = {symbol_by_name(task.Request) for task in app.tasks.values()} - {Request}
    return sorted(
        f"{cls.__module__}.{cls.__qualname__}.{name} is ignored: requests are not kept in a main process"
        for cls in classes
        for name in _UNHEARD
        if getattr(cls, name, None) is not getattr(Request, name, None)
    )
