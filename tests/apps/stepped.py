"""An application with steps of its own, and a worker class of its own."""

from __future__ import annotations

import os
import threading
from typing import Any

from celery import bootsteps

from tests.apps import plain
from tests.apps.build import TaskTable
from tests.apps.ledger import ledger


class Probe(bootsteps.StartStopStep):  # type: ignore[misc]
    """What is in everybody's guide to probes: touch a file again and again."""

    requires = ("celery.worker.components:Timer",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        ledger().write("made", "Probe")
        self.tref: Any = None

    def start(self, parent: Any) -> None:
        ledger().write("started", "Probe")
        self.tref = parent.timer.call_repeatedly(0.1, self.touch, (parent,), priority=10)

    def touch(self, parent: Any) -> None:
        ledger().write("touched", parent.hostname)
        ledger().write(f"threads-{threading.active_count()}", "Probe")

    def stop(self, parent: Any) -> None:
        ledger().write("stopped", "Probe")


class Plain(bootsteps.Step):  # type: ignore[misc]
    """Only sets something up."""

    def create(self, parent: Any) -> None:
        ledger().write("created", parent.app.conf.task_default_queue)


class NeedsPool(bootsteps.StartStopStep):  # type: ignore[misc]
    """Wants what only Celery's worker has."""

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        ledger().write("started", "NeedsPool")


class OfConsumer(bootsteps.StartStopStep):  # type: ignore[misc]
    """A step of the consumer."""

    def start(self, parent: Any) -> None:
        ledger().write("started", "OfConsumer")


table = TaskTable()
table.rows = plain.table.rows
app = table.build_from_environment()


class OwnWorker(app.Worker):  # type: ignore[misc,name-defined]
    """Writes down that it was used."""

    def on_before_init(self, **kwargs: Any) -> None:
        ledger().write("own", "worker")
        super().on_before_init(**kwargs)


if "FASTQ_TEST_FOLDER" in os.environ:
    app.Worker = OwnWorker
    for step in (Probe, Plain, NeedsPool):
        app.steps["worker"].add(step)
    app.steps["consumer"].add(OfConsumer)
