"""An application with a task for every way a task can go."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import time
from datetime import timedelta
from typing import Any

from celery import group
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.utils.log import get_task_logger

from tests.apps.build import TaskTable
from tests.apps.dying import add_deaths, add_growth
from tests.apps.ledger import ledger

table = TaskTable()


class CustomError(Exception):
    """An error of the user's own."""


class Outer:
    """Holds a class, so that an exception has a qualified name."""

    class Inner(Exception):
        """Known as Outer.Inner."""


class Picky(Exception):
    """Cannot be made again from its args."""

    def __init__(self, one: object, two: object) -> None:
        super().__init__(f"{one} and {two}")


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


@table.task("t.types")
def types(*args: Any) -> list[str]:
    """Names of the Python types that arrived, and their reprs."""
    return [f"{type(arg).__name__} {arg!r}" for arg in args]


@table.task("t.fail")
def fail(msg: str = "boom") -> None:
    """Raise the user's own error."""
    raise CustomError(msg, 7)


@table.task("t.failkey")
def failkey() -> None:
    """Raise a builtin error."""
    raise KeyError("missing")


@table.task("t.fail_nested")
def fail_nested() -> None:
    """Raise an error whose class is inside another."""
    raise Outer.Inner("deep", 3)


@table.task("t.fail_unserialisable")
def fail_unserialisable() -> None:
    """Raise an error whose arguments JSON cannot hold."""
    raise ValueError(object(), b"\xff", {1}, "text")


@table.task("t.fail_picky")
def fail_picky() -> None:
    """Raise an error that cannot be built again."""
    raise Picky(1, 2)


@table.task("t.unserialisable_result")
def unserialisable_result() -> Any:
    """Return what the serializer refuses."""
    return object()


@table.task("t.retry", bind=True, max_retries=3)
def retry(self: Any, times: int, countdown: float = 0) -> Any:
    """Retry some times, then say how often."""
    ledger().write("attempt", self.request.id)
    if self.request.retries < times:
        raise self.retry(countdown=countdown, exc=CustomError("again", self.request.retries))
    return self.request.retries


@table.task("t.retry_plain", bind=True, max_retries=1, default_retry_delay=0)
def retry_plain(self: Any) -> None:
    """Retry without an exception until MaxRetriesExceededError."""
    ledger().write("attempt", self.request.id)
    raise self.retry()


@table.task("t.autoretry", bind=True, autoretry_for=(ValueError,), max_retries=1, default_retry_delay=0)
def autoretry(self: Any) -> None:
    """Fail until the retries are used up."""
    ledger().write("attempt", self.request.id)
    raise ValueError("flaky")


@table.task(
    "t.backoff",
    bind=True,
    autoretry_for=(CustomError,),
    dont_autoretry_for=(KeyError,),
    retry_backoff=1,
    retry_jitter=False,
    max_retries=2,
)
def backoff(self: Any) -> None:
    """Fail, and be retried after 1 and 2 seconds."""
    ledger().write(f"at-{time.monotonic():.3f}", self.request.id)
    raise CustomError("flaky")


@table.task("t.ignore")
def ignore(token: str) -> None:
    """Ask for no result."""
    ledger().write("ran", token)
    raise Ignore()


@table.task("t.reject", bind=True)
def reject(self: Any, requeue: bool = False) -> str:
    """Reject the message, at its first delivery only."""
    ledger().write("ran", self.request.id)
    if (self.request.delivery_info or {}).get("redelivered"):
        return "second time"
    raise Reject("no", requeue=requeue)


table.task("t.reject_late", bind=True, acks_late=True)(reject)


@table.task("t.ignored", ignore_result=True)
def ignored(token: str) -> str:
    """Return something nobody keeps."""
    ledger().write("ran", token)
    return token


@table.task("t.ignored_failure", ignore_result=True, store_errors_even_if_ignored=True)
def ignored_failure() -> None:
    """Fail where only failures are kept."""
    raise CustomError("kept", 1)


@table.task("t.custom", bind=True)
def custom(self: Any) -> None:
    """Leave a state of its own."""
    self.update_state(state="PROGRESS", meta={"done": 3, "of": 4})
    raise Ignore()


@table.task("t.started", track_started=True)
def started(token: str = "") -> str:
    """Show STARTED until the gate opens."""
    if token:
        ledger().pass_gate(token)
    return "ok"


@table.task("t.spawn", bind=True)
def spawn(self: Any, x: int, y: int) -> str:
    """Send a task and a group: its children."""
    add_ = self.app.tasks["t.add"]
    add_.delay(x, y)
    group(add_.s(1, 1), add_.s(2, 2)).apply_async()
    return "spawned"


@table.task("t.handed_on")
def handed_on() -> dict[str, str]:
    """Which signals a program that a task starts ignores, and which it blocks: masks in hexadecimal."""
    done = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True)
    lines = (line.split() for line in done.stdout.splitlines() if line.startswith(("SigIgn", "SigBlk")))
    return {name.rstrip(":"): mask for name, mask in lines}


@table.task("t.replace", bind=True)
def replace(self: Any, x: int) -> Any:
    """Let another task answer."""
    return self.replace(self.app.tasks["t.add"].s(x, 1))


@table.task("t.replace_group", bind=True)
def replace_group(self: Any, n: int) -> Any:
    """Let a group answer."""
    return self.replace(group(self.app.tasks["t.ret"].s(i) for i in range(n)))


@table.task("t.replace_on", bind=True)
def replace_on(self: Any, x: int, queue: str) -> Any:
    """Let a task on another queue answer."""
    return self.replace(self.app.tasks["t.add"].s(x, 1).set(queue=queue))


@table.task("t.grow", bind=True)
def grow(self: Any, x: int, queue: str) -> int:
    """Add a task on another queue to the own chord."""
    self.add_to_chord(self.app.tasks["t.add"].s(x, 1).set(queue=queue))
    return x


@table.task("t.ackslate", acks_late=True)
def ackslate() -> str:
    """Is acknowledged after it ran."""
    return "late"


@table.task("t.errback_old")
def errback_old(task_id: str) -> str:
    """Old style: gets the failed id."""
    ledger().write("errback-old", task_id)
    return task_id


@table.task("t.errback_new")
def errback_new(request: Any, exc: Any, traceback: Any) -> str:
    """New style: gets request, exception and traceback, in the process of the failed task."""
    ledger().write("errback-new", request.id)
    ledger().write(f"errback-saw-{type(exc).__name__}-{'tb' if traceback else 'none'}", request.id)
    return "seen"


@table.task("t.errback")
def errback(*args: Any) -> int:
    """Whatever style."""
    return len(args)


@table.task("t.view", bind=True, ignore_result=False)
def view(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Everything `self.request` shows, as JSON text."""
    names = sorted({*vars(self.request), *(name for name in vars(Context) if not name.startswith("__"))})
    seen = {name: getattr(self.request, name) for name in names}
    return json.dumps({name: value for name, value in seen.items() if not callable(value)}, default=repr)


@table.task("t.mark", bind=True)
def mark(self: Any, token: str) -> str:
    """Write the token down."""
    ledger().write("ran", token)
    return token


table.task("t.mark_late", bind=True, acks_late=True)(mark)
table.task("t.mark_silent", bind=True, ignore_result=True)(mark)


@table.task("t.hold", bind=True)
def hold(self: Any, token: str) -> str:
    """Write "start", wait at the gate, write "end"."""
    ledger().write("start", token)
    ledger().pass_gate(token)
    ledger().write("end", token)
    return token


table.task("t.hold_late", bind=True, acks_late=True)(hold)


@table.task("t.nap")
def nap(token: str, duration_s: float) -> str:
    """Start, sleep, end."""
    ledger().write("start", token)
    time.sleep(duration_s)
    ledger().write("end", token)
    return token


table.task("t.nap_late", acks_late=True)(nap)


@table.task("t.soft")
def soft(token: str) -> str:
    """Survive its soft limit."""
    try:
        time.sleep(20)
    except SoftTimeLimitExceeded:
        ledger().write("soft", token)
        return "cleaned up"
    return "not limited"


@table.task("t.stubborn")
def stubborn(token: str) -> None:
    """Ignore its soft limit and go on until the hard one."""
    ledger().write("start", token)
    while True:
        with contextlib.suppress(SoftTimeLimitExceeded):
            time.sleep(20)


table.task("t.stubborn_late", acks_late=True)(stubborn)
table.task("t.stubborn_requeue", acks_late=True, acks_on_timeout=False)(stubborn)


@table.task("t.fail_late", acks_late=True)
def fail_late() -> None:
    """Fail late, acknowledged."""
    raise CustomError("late", 1)


table.task("t.fail_late_unacked", acks_late=True, acks_on_failure_or_timeout=False)(fail_late)


@table.task("t.big_result")
def big_result(size_bytes: int) -> str:
    """A long text."""
    return "x" * size_bytes


@table.task("t.size")
def size(blob: Any) -> int:
    """How long the argument was."""
    return len(blob)


@table.task("t.pid")
def pid() -> int:
    """Which child runs it."""
    return os.getpid()


@table.task("t.returns_result", bind=True)
def returns_result(self: Any) -> Any:
    """Return an AsyncResult."""
    return self.app.AsyncResult("11111111-2222-4333-8444-555555555555")


@table.task("t.expiring", expires=timedelta(seconds=30).total_seconds())
def expiring() -> str:
    """Has an expiry of its own."""
    return "in time"


@table.task("t.say")
def say(text: str) -> None:
    """Write it in all the ways in which tasks write."""
    logging.getLogger("some.library").warning("library: %s", text)
    get_task_logger(__name__).warning("task: %s", text)
    print(f"print: {text}")


@table.task("t.progress", bind=True)
def progress(self: Any) -> str:
    """Send an event of its own."""
    self.send_event("task-progress", percent=50)
    return "sent"


@table.task("t.silent", send_events=False)
def silent(value: Any = "silence") -> Any:
    """Is not told of."""
    if value == "boom":
        raise CustomError("silently", 1)
    return value


add_deaths(table)
add_growth(table)
app = table.build_from_environment()
