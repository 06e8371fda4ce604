"""The plain tasks, and remote-control commands of the application's own."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from celery.worker.control import control_command, inspect_command

from tests.apps import plain
from tests.apps.build import TaskTable


@inspect_command(alias="dump_whoami")
def whoami(state: Any, **kwargs: Any) -> dict[str, Any]:
    """Which worker this is."""
    return {"node": state.hostname, "app": state.app.main, "consumer": state.consumer.hostname}


@inspect_command()
def answering_pid(state: Any) -> int:
    """The process that answers."""
    return os.getpid()


@inspect_command()
def current_prefetch_count(state: Any) -> dict[str, int]:
    """The example of Celery's documentation."""
    return {"prefetch_count": state.consumer.qos.value}


@control_command(args=[("n", int)], signature="[N=1]")
def double(state: Any, n: int = 1) -> dict[str, int]:
    """Twice its argument."""
    return {"ok": 2 * n}


@control_command()
def raises(state: Any) -> None:
    """Fail."""
    raise LookupError("nothing there")


@control_command()
def exits(state: Any) -> None:
    """Take the process with it."""
    os.kill(os.getpid(), signal.SIGKILL)


@control_command()
def reaches_for_the_pool(state: Any) -> Any:
    """Use what only Celery's main process has."""
    return state.consumer.pool.num_processes


@control_command()
def hangs(state: Any) -> None:
    """Never answer."""
    time.sleep(3600)


@control_command()
def unencodable(state: Any) -> object:
    """Return what is no JSON."""
    return object()


class ControlledTable(TaskTable):
    """A table of its own, so that the plain application has no such commands."""


table = ControlledTable()
table.rows = plain.table.rows
app = table.build_from_environment()
