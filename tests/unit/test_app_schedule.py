"""The entries of an application's schedule: how they are made, named and checked."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from celery import schedules as celerys

from fastq import FastQ, crontab
from fastq.errors import ScheduleError
from fastq.schedules import cron, every


@pytest.fixture
def app() -> FastQ:
    return FastQ("shop", timezone="Europe/Berlin")


def test_above_a_task_and_with_a_task(app: FastQ) -> None:
    @app.every(10, args=[1], queue="slow")
    @app.cron("@daily", name="nightly")
    @app.task
    def tick(number: int = 0) -> int:
        return number

    made = app.every(timedelta(minutes=1), tick, name="other")
    app.cron(crontab(minute=0), "elsewhere.task", tz="UTC")
    entries = app.entries()
    assert list(entries) == ["nightly", tick.name, "other", "elsewhere.task"]
    assert tick(4) == 4
    assert made == entries["other"]
    assert entries[tick.name].args == [1]
    assert entries[tick.name].options == {"queue": "slow"}
    assert entries["nightly"].schedule == cron("@daily", tz="Europe/Berlin")
    assert entries["elsewhere.task"].schedule == crontab(minute=0, tz="UTC")


def test_two_entries_of_one_name_are_an_error(app: FastQ) -> None:
    app.every(10, "tick")
    with pytest.raises(ScheduleError, match="two entries 'tick'"):
        app.cron("@daily", "tick")
    app.conf.beat_schedule = {"tick": {"task": "t", "schedule": 1}}
    with pytest.raises(ScheduleError, match="two entries 'tick'"):
        app.entries()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (30, every(30)),
        (0.5, every(0.5)),
        (timedelta(hours=1), every(3600)),
        (crontab(minute=5), crontab(minute=5, tz="Europe/Berlin")),
        (
            celerys.crontab(minute="*/5", day_of_week="mon"),
            crontab(minute="*/5", day_of_week="mon", tz="Europe/Berlin"),
        ),
        (celerys.schedule(20), every(20)),
    ],
    ids=str,
)
def test_celerys_setting_is_read(app: FastQ, given: Any, wanted: Any) -> None:
    entry = {"task": "t", "schedule": given, "args": (1,), "kwargs": {"a": 2}, "options": {"queue": "q"}}
    app.config_from_object({"beat_schedule": {"each": entry}})
    (found,) = app.entries().values()
    assert (found.schedule, found.task, found.missed) == (wanted, "t", "once")
    assert (found.args, found.kwargs, found.options) == ((1,), {"a": 2}, {"queue": "q"})


@pytest.mark.parametrize(
    "entry",
    [
        {"task": "t"},
        {"task": "t", "schedule": "10"},
        {"task": "t", "schedule": 10, "every": 3},
        {"task": "", "schedule": 10},
        {"task": "t", "schedule": 10, "options": {"colour": "red"}},
        {"task": "t", "schedule": 10, "options": {"task_id": "mine"}},
        {"task": "t", "schedule": 10, "missed": "never"},
        pytest.param({"task": "t", "schedule": object()}, id="no schedule"),
    ],
    ids=str,
)
def test_an_entry_that_cannot_be_used_is_refused(app: FastQ, entry: dict[str, Any]) -> None:
    app.conf.beat_schedule = {"each": entry}
    with pytest.raises(ScheduleError):
        app.entries()


def test_an_application_without_cron_lines_loads_no_parser() -> None:
    script = (
        "import sys; from fastq import FastQ; app = FastQ('a'); app.every(1, 't'); app.entries(); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"cronsim", "zoneinfo", "redis", "celery", "asyncio"} & set(loaded)
