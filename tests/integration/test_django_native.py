"""A Django project with a native application: settings, transactions, connections, and Django's own tasks."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fix_redis import Database
from tests.fix_worker import ROOT, WorkerProcess

pytest.importorskip("django")
if not importlib.util.find_spec("django.tasks"):
    pytest.importorskip("django_tasks", reason="this Django is older than 6, and django-tasks is not installed")

SITE = ROOT / "tests" / "native_site"


def invalid() -> str:
    """The error for a task that cannot be sent: of Django 6, or of the package django-tasks."""
    return "InvalidTask" if importlib.util.find_spec("django.tasks") else "InvalidTaskError"


def test_a_project_sends_and_runs_tasks_of_both_kinds(db: Database, tmp_path: Path) -> None:
    env = {"PYTHONPATH": f"{ROOT}:{SITE}"}
    worker = WorkerProcess(
        engine="fastq",
        folder=tmp_path,
        broker=db.url,
        app="website.queue",
        env=env,
        concurrency=2,
    )

    def use(what: str) -> Any:
        command = [sys.executable, str(SITE / "use.py"), what]
        done = subprocess.run(command, env=worker.env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{done.stderr}\n{worker.log}"
        return json.loads(done.stdout) if done.stdout else None

    use("migrate")
    worker.start()
    try:
        found = use("everything")
    finally:
        worker.finish()
    assert found["on_commit"] == {"inside": "new", "state": "packed"}
    assert found["connections"] == [False] * 3
    interface = found["interface"]
    assert interface["before"] == "READY"
    assert interface["shipped"] == ["shirt: ship", "shipped by ship", 1]
    assert interface["times"]
    attempt, told_id, status, sent_id = interface["told"]
    assert (attempt, told_id, status) == (1, sent_id, "RUNNING")
    assert interface["later"] == "from a coroutine"
    assert interface["failed"][:2] == ["FAILED", "ValueError"]
    assert "sold out" in interface["failed"][2]
    assert interface["died"][0] == "FAILED"
    assert found["asynchronous"] == [[3, "hand"], [[1, 2]], {"by": "hand"}, -100, "store"]
    assert found["after_commit"] == [0, "from a coroutine"]
    assert found["refused"] == ["TaskResultMismatch", "TaskResultDoesNotExist", invalid()]
    assert found["signalled"] == ["TaskBackend", "TaskBackend RUNNING", "TaskBackend SUCCESSFUL"]
    assert interface["waits"] == ["READY", "READY"]
    assert len(worker.log_lines("succeeded")) >= 6
    # The message of the scarf, which was never ordered, was never sent.
    assert not worker.log_lines("scarf")
