"""The plain application, whose beat processes write down that they are there."""

from __future__ import annotations

import os
from typing import Any

from celery import signals

from tests.apps import plain
from tests.apps.build import TaskTable
from tests.apps.ledger import ledger


def note(**_kwargs: Any) -> None:
    """One line; it has the process id."""
    ledger().write("beat", "here")


if "FASTQ_TEST_FOLDER" in os.environ:
    signals.beat_init.connect(note)

table = TaskTable()
table.rows = plain.table.rows
app = table.build_from_environment()
