"""The page of settings names every setting of the installed Celery, and is what `make docs` makes."""

from __future__ import annotations

import pytest

pytest.importorskip("celery")

from celery import VERSION
from celery.app.defaults import NAMESPACES, flatten

from docs import make_settings
from fastq.compat.celery import known_settings

#: Settings of daemons, which Celery reads and does not list.
UNLISTED = {f"worker_{name}" for name in ("logfile", "pidfile", "uid", "gid", "umask", "executable")}

OURS = {row.name: row for row in known_settings.read()}
THEIRS = {name for name, _ in flatten(NAMESPACES)}


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_a_setting_of_celery_is_on_the_page(name: str) -> None:
    assert name in OURS, f"Celery has a setting that fastq/compat/celery/settings.data does not name: {name}"


@pytest.mark.skipif(VERSION < (5, 7), reason="older versions of Celery lack some")
def test_no_setting_is_invented() -> None:
    assert set(OURS) - THEIRS == UNLISTED


def test_what_is_not_the_same_has_a_remark() -> None:
    assert not [row for row in OURS.values() if row.status != "same" and not row.remark]


def test_the_page_is_up_to_date() -> None:
    assert make_settings.PAGE.read_text() == make_settings.page(), "run `make docs`"
