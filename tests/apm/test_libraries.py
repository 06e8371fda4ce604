"""Libraries that hook into workers work as they do under `celery worker`."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest

from tests.apm.agents import is_installed
from tests.eventually import eventually
from tests.fix_lab import Lab, wait_state


def needs(*packages: str) -> pytest.MarkDecorator:
    """Skip where these are not installed."""
    missing = [package for package in packages if not is_installed(package)]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed: `make apm` brings them")


@pytest.fixture
def locked(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A worker with the tasks that lock."""
    for module in ("celery_singleton.backends", "celery_once.backends.redis"):
        for kept in ("_backend", "redis"):  # connections to the database of the test before
            monkeypatch.setattr(f"{module}.{kept}", None, raising=False)
    lab.use("tests.apm.locked")
    lab.worker(concurrency=2)
    return lab


@needs("celery-singleton", "celery-once", "celery-progress")
@pytest.mark.parametrize("task", ["single", "once"])
def test_a_second_one_waits_until_the_lock_is_given_back(locked: Lab, task: str) -> None:
    first = locked.send(task, "one")
    eventually(lambda: locked.ledger.count("start", "one"))
    assert getattr(locked.send(task, "one"), "id", None) in (first.id, None)
    locked.ledger.open_gate("one")
    assert first.get(timeout=15) == "one"
    eventually(lambda: (again := locked.send(task, "one")) and again.id and again.id != first.id)
    eventually(lambda: locked.ledger.count("start", "one") == 2)


@needs("celery-singleton", "celery-once", "celery-progress")
def test_progress_is_stored_while_the_task_runs(locked: Lab) -> None:
    sent = locked.send("progress", "half")
    found = wait_state(locked, sent.id, "PROGRESS")
    assert (found["result"]["current"], found["result"]["percent"]) == (3, 75.0)
    locked.ledger.open_gate("half")
    assert sent.get(timeout=15) == "half"


@needs("django-celery-results", "django-structlog", "django")
def test_results_go_to_djangos_database_and_logs_to_structlog(lab: Lab) -> None:
    lab.use("tests.apm.djangoed", result_extended=True)
    worker = lab.worker(backend="django-db", env={"DJANGO_SETTINGS_MODULE": "tests.apm.django_settings"})
    ids = {name: lab.send(name, task_id=f"id-{name}").id for name in ("ok", "fail", "call", "give_up")}
    eventually(
        lambda: (
            {name: row["status"] for name, row in rows(lab).items() if name in ids}
            == {"ok": "SUCCESS", "fail": "FAILURE", "call": "SUCCESS", "give_up": "FAILURE"}
        ),
        within_s=20,
        saying=str(rows(lab)),
    )
    found = rows(lab)
    assert found["fail"]["task_name"] == "t.fail"
    assert "ValueError: boom" in found["fail"]["traceback"]
    assert found["ok"]["worker"] == worker.node
    events = [json.loads(line[line.index("{") :]) for line in worker.log_lines('WARNING.* {"')]
    told = {(event["event"], event["task_id"]) for event in events if "task_id" in event}
    assert {("task_started", "id-ok"), ("task_succeeded", "id-ok"), ("task_failed", "id-fail")} <= told
    assert ("task_retrying", "id-give_up") in told


def rows(lab: Lab) -> dict[str, dict[str, Any]]:
    """What Django has stored, by the part of the id after "id-"."""
    database = sqlite3.connect(lab.folder / "django.sqlite")
    database.row_factory = sqlite3.Row
    try:
        found = database.execute("select * from django_celery_results_taskresult").fetchall()
    except sqlite3.OperationalError:
        return {}
    finally:
        database.close()
    return {row["task_id"].removeprefix("id-"): dict(row) for row in found}
