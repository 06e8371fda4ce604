"""A native application takes its settings from modules, classes and calls, and names what is none."""

from __future__ import annotations

import logging

import pytest

from fastq import FastQ
from fastq.errors import SettingError


class Ported:
    """What somebody brings from Celery, with a slip of the pen."""

    timezone = "Europe/Oslo"
    task_annotations = None
    task_rutes = "celeryconfig.routes"
    helper = 5

    def task_router(self) -> None:
        """No setting."""


def test_names_that_look_like_settings_and_are_none_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = FastQ("ported")
    with caplog.at_level(logging.WARNING):
        app.config_from_object(Ported)
    assert app.conf.timezone == "Europe/Oslo"
    (record,) = caplog.records
    assert record.getMessage().endswith("no settings of native applications: ['task_annotations', 'task_rutes']")


def test_settings_can_be_changed_later_by_name() -> None:
    app = FastQ("changed")
    app.conf.update(timezone="Europe/Oslo", result_expires=60)
    app.conf.update({"task_acks_late": True})
    assert (app.conf.timezone, app.conf.result_expires, app.conf.task_acks_late) == ("Europe/Oslo", 60, True)
    with pytest.raises(SettingError, match="there is no setting 'task_rutes'; did you mean 'task_routes'"):
        app.conf.update(task_rutes={})
