"""The application that is watched: a task for every way a task can go, set up for the agent that the test chose."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Reject

from tests.apm import agents
from tests.apps.build import TaskTable

table = TaskTable()


class Called(Task):  # type: ignore[misc, unused-ignore]
    """A task class with a `__call__` of its own."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Pass it on."""
        return self.run(*args, **kwargs)


@table.task("t.ok")
def ok(value: Any = None) -> Any:
    """What it got."""
    return value


@table.task("t.called", base=Called)
def called(value: Any = None) -> Any:
    """What it got."""
    return value


@table.task("t.fail")
def fail() -> None:
    """Raise an error."""
    raise ValueError("boom")


@table.task("t.expected", throws=(KeyError,))
def expected() -> None:
    """Raise an error that is no news."""
    raise KeyError("known")


@table.task("t.retry", bind=True, max_retries=2)
def retry(self: Any) -> int:
    """Succeed the second time."""
    if not self.request.retries:
        raise self.retry(countdown=0, exc=ValueError("again"))
    return int(self.request.retries)


@table.task("t.give_up", bind=True, max_retries=1)
def give_up(self: Any) -> None:
    """Never succeed."""
    raise self.retry(countdown=0, exc=ValueError("never"))


@table.task("t.call", bind=True)
def call(self: Any) -> str:
    """Send another task."""
    return str(self.app.tasks["t.ok"].delay("from another").id)


@table.task("t.slow", soft_time_limit=1)
def slow() -> None:
    """Be interrupted."""
    time.sleep(10)


@table.task("t.ignore")
def ignore() -> None:
    """Ask for no result."""
    raise Ignore()


@table.task("t.reject", acks_late=True)
def reject() -> None:
    """Refuse the message."""
    raise Reject("no", requeue=False)


@table.task("t.replace", bind=True)
def replace(self: Any) -> Any:
    """Let another task answer."""
    return self.replace(self.app.tasks["t.ok"].s("instead"))


app = table.build_from_environment()
if "FASTQ_TEST_AGENT" in os.environ:
    agents.named(os.environ["FASTQ_TEST_AGENT"]).set_up(app)
