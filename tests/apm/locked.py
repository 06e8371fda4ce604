"""Tasks of libraries that keep a second one from running, and of one that shows how far a task is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tests.apps.build import TaskTable
from tests.apps.ledger import ledger


class LockedTable(TaskTable):
    """Its tasks' classes are made only where the libraries are."""

    def build(self, settings: Mapping[str, Any], **broker: str) -> Any:
        """With the libraries told where their locks are."""
        from celery_once import QueueOnce
        from celery_singleton import Singleton

        self.rows = []
        self.task("t.single", base=Singleton)(hold)
        self.task("t.once", base=QueueOnce, once={"graceful": True})(hold)
        self.task("t.progress", bind=True)(progress)
        url = broker["broker"]
        locks = {
            "singleton_backend_url": url,
            "ONCE": {"backend": "celery_once.backends.Redis", "settings": {"url": url}},
        }
        return super().build({**settings, **locks}, **broker)


def hold(token: str) -> str:
    """Wait at the gate."""
    ledger().write("start", token)
    ledger().pass_gate(token)
    return token


def progress(self: Any, token: str) -> str:
    """Say how far it is, and wait at the gate."""
    from celery_progress.backend import ProgressRecorder

    ProgressRecorder(self).set_progress(3, 4, description="nearly")
    ledger().pass_gate(token)
    return token


table = LockedTable()
if "FASTQ_TEST_FOLDER" in os.environ:
    app = table.build_from_environment()
