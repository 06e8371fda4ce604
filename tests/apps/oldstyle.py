"""An application with the old names of settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from celery import Celery

from tests.apps import plain
from tests.apps.build import TaskTable

OLD = {
    "CELERY_DEFAULT_QUEUE": "old",
    "CELERYD_TASK_TIME_LIMIT": 33,
    "CELERY_TRACK_STARTED": True,
    "CELERYD_LOG_FORMAT": "old %(levelname)s %(message)s",
    "CELERYD_PREFETCH_MULTIPLIER": 7,
}


class OldTable(TaskTable):
    """The plain tasks."""

    def build(self, settings: Mapping[str, Any], **broker: str) -> Any:
        """As the plain one, with old names only."""
        app = Celery("old", set_as_current=False)
        app.config_from_object({**OLD, "BROKER_URL": broker["broker"], "CELERY_RESULT_BACKEND": broker["backend"]})
        for function, options in self.rows:
            app.task(shared=False, **options)(function)
        app.finalize()
        return app


table = OldTable()
table.rows = plain.table.rows
if "FASTQ_TEST_FOLDER" in os.environ:
    app = table.build_from_environment()
