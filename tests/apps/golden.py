"""The tasks of the application the golden samples were recorded with."""

from __future__ import annotations

from typing import Any

from celery import group
from celery.exceptions import Ignore, Reject

from tests.apps import open as accepting
from tests.apps.build import TaskTable
from tests.apps.ledger import ledger

table = TaskTable()


class CustomError(Exception):
    """An error of the user's own."""


@table.task("t.add")
def add(x: Any, y: Any) -> Any:
    """The sum of two."""
    return x + y


@table.task("t.xsum")
def xsum(numbers: list[Any]) -> Any:
    """The sum of many."""
    return sum(numbers)


@table.task("t.ret")
def ret(value: Any) -> Any:
    """What it got."""
    return value


@table.task("t.echo")
def echo(*args: Any, **kwargs: Any) -> Any:
    """All it got."""
    return [list(args), kwargs]


@table.task("t.fail")
def fail(msg: str = "boom") -> None:
    """Raise the user's own error."""
    raise CustomError(msg, 7)


@table.task("t.failkey")
def failkey() -> Any:
    """Raise a builtin error."""
    nothing: dict[str, str] = {}
    return nothing["k"]


@table.task("t.retry", bind=True, default_retry_delay=0.3)
def retry(self: Any, times: int) -> str:
    """Retry some times."""
    if self.request.retries < times:
        raise self.retry(exc=ValueError("again"))
    return "ok"


@table.task("t.autoretry", bind=True, autoretry_for=(KeyError,), max_retries=1, default_retry_delay=1)
def autoretry(self: Any) -> None:
    """Fail until the one retry is used up."""
    raise KeyError("x")


@table.task("t.ignore")
def ignore() -> None:
    """Ask for no result."""
    raise Ignore()


@table.task("t.ignored", ignore_result=True)
def ignored() -> int:
    """Return what nobody keeps."""
    return 1


@table.task("t.reject")
def reject() -> None:
    """Refuse the message."""
    raise Reject("no", requeue=False)


@table.task("t.custom", bind=True)
def custom(self: Any) -> None:
    """Leave a state of its own."""
    self.update_state(state="PROGRESS", meta={"current": 1, "total": 2})
    raise Ignore()


@table.task("t.started", track_started=True)
def started() -> int:
    """Show STARTED first."""
    return 1


@table.task("t.ackslate", acks_late=True)
def ackslate() -> int:
    """Is acknowledged after it ran."""
    return 0


@table.task("t.spawn", bind=True)
def spawn(self: Any, x: int, y: int) -> str:
    """Send a task and a group under fixed ids."""
    add_ = self.app.tasks["t.add"]
    add_.apply_async((x, y), task_id="11111111-0000-4000-8000-00000000c001")
    group(add_.s(1, 1), add_.s(2, 2)).apply_async(task_id="11111111-0000-4000-8000-00000000c002")
    return "spawned"


@table.task("t.replace", bind=True)
def replace(self: Any, x: int) -> Any:
    """Let another task answer."""
    return self.replace(self.app.tasks["t.add"].s(x, 1))


@table.task("t.errback_old")
def errback_old(task_id: str) -> str:
    """Old style: gets the failed id."""
    return task_id


@table.task("t.errback_new")
def errback_new(request: Any, exc: Any, traceback: Any) -> None:
    """New style: called in the process of the failed task."""
    ledger().write("errback-new", request.id)


@table.task("t.errback")
def errback(*args: Any) -> int:
    """Whatever style."""
    return len(args)


app = table.build_from_environment()
app.conf.accept_content = accepting.CONTENT
