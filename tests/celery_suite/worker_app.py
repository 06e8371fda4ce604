"""The worker's side of Celery's integration tests: the application that their fixtures make, in another process."""

from __future__ import annotations

import logging
import os
from typing import Any

from celery import signals
from celery.contrib.testing.app import TestApp
from kombu.utils.json import loads
from t.integration import tasks  # type: ignore[import-not-found]

from tests.celery_suite.log_wire import Sender


def _application() -> Any:
    app = TestApp(config=loads(os.environ["CELERY_SUITE_CONFIG"]), enable_logging=True)
    app.set_current()
    app.set_default()
    app.register_task(tasks.ClassBasedAutoRetryTask)
    return app


@signals.after_setup_logger.connect
@signals.after_setup_task_logger.connect
def _send_records(logger: logging.Logger, **_: Any) -> None:
    logger.addHandler(sender)


def _tell_received(request: Any, **_: Any) -> None:
    names = ("id", "name", "stamps", "stamped_headers", "replaced_task_nesting", "errbacks", "_Request__payload")
    sender.tell(received={name: getattr(request, name) for name in names})


sender = Sender(os.environ["CELERY_SUITE_LOG"])
if os.environ["CELERY_SUITE_SIGNALS"]:  # a receiver of this signal takes compiled shortcuts away from fastq
    signals.task_received.connect(_tell_received)
app = _application()
