"""A Django project, under the worker as under Celery's: settings, models, connections, transactions, checks."""

from __future__ import annotations

import datetime
import importlib.util
import subprocess
import sys
import zoneinfo
from typing import Any

import pytest

from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab
from tests.fix_worker import ROOT, WorkerProcess

pytest.importorskip("django")

SITE = ROOT / "tests" / "site"


def start(lab: Lab, *args: str, **env: str) -> WorkerProcess:
    """A worker on the project, with its database made."""
    paths = {"PYTHONPATH": f"{ROOT}:{SITE}", **env}
    model = WorkerProcess(engine=lab.engine, folder=lab.folder, **lab._defaults())
    subprocess.run(
        [sys.executable, str(SITE / "manage.py"), "migrate", "--run-syncdb", "-v", "0", "--skip-checks"],
        env={**model.env, **paths},
        check=True,
    )
    return lab.worker(*args, app="proj", env=paths, ready=False)


@pytest.fixture(scope="module")
def shop(module_lab: Lab) -> Lab:
    """The worker that most tests share."""
    start(module_lab, "-Q", "shop").wait_ready()
    return module_lab


def send(lab: Lab, name: str, *args: Any, **options: Any) -> Any:
    return lab.app.send_task(f"shop.tasks.{name}", args, queue="shop", **options)


def run(lab: Lab, name: str, *args: Any) -> Any:
    return send(lab, name, *args).get(timeout=RESULT_S)


def test_models_are_written_and_read(shop: Lab) -> None:
    assert run(shop, "order", "shirt") > 0
    assert "shirt" in run(shop, "orders")


def test_connections_are_closed_around_tasks(shop: Lab) -> None:
    assert [run(shop, "had_connection") for _ in range(3)] == [False] * 3


def test_a_task_is_sent_when_the_transaction_is_certain(shop: Lab) -> None:
    run(shop, "order_both", "hat", "hatbox", False)
    eventually(lambda: {"hat", "hatbox"} <= set(run(shop, "orders")))


def test_a_task_is_not_sent_when_the_transaction_is_taken_back(shop: Lab) -> None:
    with pytest.raises(ValueError, match="changed my mind"):
        run(shop, "order_both", "shoe", "shoebox", True)
    assert not {"shoe", "shoebox"} & set(run(shop, "orders"))
    assert shop.db.length("shop") == 0


def test_settings_arrive_under_their_namespace(shop: Lab) -> None:
    seen = run(shop, "surroundings")
    assert seen["settings"] == "proj.settings"
    assert seen["queue"] == "shop"
    assert seen["zone"] == "Europe/Paris"


def test_the_log_is_in_the_zone_of_the_project(shop: Lab) -> None:
    """Django sets the zone of its process; a log with lines in two zones would be hard to read."""
    here = datetime.datetime.now(zoneinfo.ZoneInfo("Europe/Paris"))
    (line,) = shop.workers[0].log_lines("ready\\.")
    then = datetime.datetime.strptime(line[1:20], "%Y-%m-%d %H:%M:%S").replace(tzinfo=here.tzinfo)
    assert abs(here - then) < datetime.timedelta(minutes=10)


def test_a_failed_check_ends_the_worker(lab: Lab) -> None:
    worker = start(lab, FASTQ_TEST_CLOSED="1")
    assert worker.wait(within_s=20) != 0
    assert "the shop is closed on purpose" in worker.log


def test_checks_can_be_skipped(lab: Lab) -> None:
    start(lab, FASTQ_TEST_CLOSED="1", CELERY_SKIP_CHECKS="1").wait_ready()
    assert run(lab, "orders") == []


@pytest.mark.skipif(not importlib.util.find_spec("django_celery_beat"), reason="django-celery-beat is not installed")
def test_a_schedule_in_the_database_is_run(lab: Lab) -> None:
    worker = start(lab, "-B", FASTQ_TEST_SCHEDULER="django")
    worker.wait_ready()
    script = """
import django; django.setup()
from django_celery_beat.models import IntervalSchedule, PeriodicTask
every = IntervalSchedule.objects.create(every=1, period="seconds")
PeriodicTask.objects.create(name="hourly", interval=every, task="shop.tasks.order", args='["periodic"]')
"""
    env = {**worker.env, "DJANGO_SETTINGS_MODULE": "proj.settings"}
    subprocess.run([sys.executable, "-c", script], env=env, check=True)
    eventually(lambda: "periodic" in run(lab, "orders"), within_s=25)
