"""An application whose tasks hook into every step of their life and write down what they see."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from celery.worker.request import Request
from pydantic import BaseModel

from tests.apps.build import TaskTable
from tests.apps.dying import die
from tests.apps.ledger import ledger

table = TaskTable()


class Expected(Exception):
    """An error that a task says it throws."""


class Hooked(Task):  # type: ignore[misc]
    """Writes every hook down, in order, with what it was called with."""

    abstract = True

    def _note(self, hook: str, *seen: Any) -> None:
        """`seen` begins with the id of the task."""
        told = [_plain(value) for value in seen[1:]]
        ledger().write(f"hook-{seen[0]}", json.dumps([hook, self.request.id == seen[0], *told]).replace(" ", ""))

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self._note("before_start", task_id, args, kwargs)

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        self._note("on_success", task_id, retval, args, kwargs)
        if kwargs.get("broken") == "on_success":
            raise ValueError("a hook failed")

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self._note("on_failure", task_id, exc, args, kwargs, type(einfo).__name__)

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self._note("on_retry", task_id, exc, args, kwargs, type(einfo).__name__)

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self._note("after_return", task_id, status, retval, args, kwargs, type(einfo).__name__)
        if kwargs.get("broken") == "after_return":
            raise ValueError("a hook failed")


def _plain(value: Any) -> Any:
    return type(value).__name__ if isinstance(value, Exception) else value


@table.task("t.hooked", base=Hooked, bind=True, max_retries=1)
def hooked(self: Any, how: str = "return", broken: str = "") -> str:
    """End in the way named."""
    if how == "fail":
        raise ValueError("failed")
    if how == "retry" and not self.request.retries:
        raise self.retry(countdown=0, exc=KeyError("again"))
    if how == "ignore":
        raise Ignore()
    if how == "reject":
        raise Reject("no", requeue=False)
    if how == "sleep":
        time.sleep(30)
    return "done"


table.task("t.hooked_late", base=Hooked, bind=True, max_retries=1, acks_late=True)(hooked)


class Greeting(Task):  # type: ignore[misc]
    """Has a `__call__` of its own and keeps something for the life of its process."""

    abstract = True
    _greeting = ""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._greeting = self._greeting or f"hello from {os.getpid()}"
        return [self._greeting, super().__call__(*args, **kwargs)]


@table.task("t.greeting", base=Greeting, bind=True)
def greeting(self: Any, name: str) -> str:
    """What the base class wraps."""
    return f"{name} {self.request.called_directly} {self.request.retries}"


class Noted(Request):  # type: ignore[misc]
    """Writes down what the main process of a worker is told."""

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        ledger().write("accepted", f"{self.id}")
        super().on_accepted(pid, time_accepted)

    def on_timeout(self, soft: bool, timeout: Any) -> None:
        ledger().write("timeout", f"{self.id}-{'soft' if soft else 'hard'}-{timeout}")
        super().on_timeout(soft, timeout)

    def on_success(self, failed__retval__runtime: Any, **kwargs: Any) -> Any:
        ledger().write("success", f"{self.id}-{failed__retval__runtime[0]}")
        return super().on_success(failed__retval__runtime, **kwargs)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        ledger().write("failure", f"{self.id}-{type(exc_info.exception).__name__}")
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_retry(self, exc_info: Any) -> Any:
        ledger().write("retry", f"{self.id}")
        return super().on_retry(exc_info)


class Requested(Task):  # type: ignore[misc]
    """Its requests are of a class of its own."""

    abstract = True
    Request = Noted


@table.task("t.requested", base=Requested, bind=True, acks_late=True, soft_time_limit=None)
def requested(self: Any, how: str = "return") -> str:
    """End in the way named."""
    try:
        if how == "sleep":
            time.sleep(30)
    except SoftTimeLimitExceeded:
        return "soft"
    if how == "fail":
        raise ValueError("failed")
    if how == "retry" and not self.request.retries:
        raise self.retry(countdown=0)
    return "done"


@table.task("t.throws", throws=(Expected,))
def throws(expected: bool) -> None:
    """Raise what was announced, or not."""
    raise Expected("announced") if expected else ValueError("not announced")


@table.task("t.progress", bind=True)
def progress(self: Any, token: str) -> str:
    """Show a state of its own until the gate opens."""
    self.update_state(state="PROGRESS", meta={"done": 3, "of": 4})
    ledger().pass_gate(token)
    return "done"


@table.task("t.other_state", bind=True)
def other_state(self: Any, task_id: str) -> None:
    """Give another task a state."""
    self.update_state(task_id=task_id, state="SEEN", meta=[1, 2])


@table.task("t.stored_then_requeued", bind=True, acks_late=True)
def stored_then_requeued(self: Any) -> str:
    """Be a success, and come back all the same."""
    ledger().write("ran", self.request.id)
    if not self.request.delivery_info.get("redelivered"):
        self.backend.store_result(self.request.id, "first", "SUCCESS")
        raise Reject("again", requeue=True)
    return "second"


@table.task("t.untracked", bind=True, trail=False)
def untracked(self: Any) -> str:
    """Send a task that is no child."""
    self.app.tasks["t.throws"].delay(True)
    return "sent"


class Point(BaseModel):
    """A validated argument."""

    x: int
    y: int = 5


class Sum(BaseModel):
    """A validated result."""

    total: float


@table.task("t.point", pydantic=True)
def point(where: Point, factor: int = 1) -> Sum:
    """Take and return models."""
    return Sum(total=(where.x + where.y) * factor)


@table.task("t.point_strict", pydantic=True, pydantic_strict=True)
def point_strict(where: Point) -> int:
    """Accept no number that is a text."""
    return where.x


@table.task("t.point_context", pydantic=True, pydantic_context={"unit": "m"}, pydantic_dump_kwargs={"by_alias": True})
def point_context(where: Point) -> Point:
    """Return the model it got."""
    return where


@table.task("t.jittered", bind=True, autoretry_for=(ValueError,), retry_backoff=2, retry_backoff_max=3, max_retries=2)
def jittered(self: Any) -> None:
    """Fail, and be retried with jitter."""
    ledger().write("eta", f"{self.request.id}={self.request.eta or ''}")
    raise ValueError("flaky")


@table.task("t.chosen", bind=True, autoretry_for=(LookupError,), dont_autoretry_for=(KeyError,), default_retry_delay=0)
def chosen(self: Any, key: bool) -> None:
    """Be retried for all lookups but keys."""
    ledger().write("attempt", self.request.id)
    raise KeyError("no") if key else IndexError("again")


@table.task("t.patient", bind=True, max_retries=None, default_retry_delay=0)
def patient(self: Any, times: int) -> int:
    """Retry as often as wanted."""
    if self.request.retries < times:
        raise self.retry()
    return int(self.request.retries)


@table.task("t.raised_retry", bind=True)
def raised_retry(self: Any) -> None:
    """Raise Retry without having sent anything."""
    raise Retry("by hand", when=1)


@table.task("t.typed")
def typed(x: int, *, y: int = 1) -> int:
    """Has a signature that is checked when it is sent."""
    return x + y


table.task("t.untyped", typing=False)(typed)


@table.task("t.recursive", bind=True)
def recursive(self: Any, depth: int) -> Any:
    """Call itself in the process, with a request of its own each time."""
    seen = [self.request.called_directly, self.request.id is None]
    return [seen, *(self(depth - 1) if depth else [])]


table.task("t.die_retry", bind=True, acks_late=True, retry_on_worker_lost=True, default_retry_delay=0)(die)
table.task("t.die_retry_early", bind=True, retry_on_worker_lost=True, default_retry_delay=0)(die)
table.task("t.die_retry_once", bind=True, acks_late=True, retry_on_worker_lost=True, max_retries=0)(die)
table.task("t.die_lost", bind=True, acks_late=True)(die)


app = table.build_from_environment()
