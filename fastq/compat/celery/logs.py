"""Have Celery's logging write JSON, where the operator asked for it and the application leaves logging to us.

Celery sets logging up twice: in the nursery, and again in each child. Both times it tells `after_setup_logger` and
`after_setup_task_logger`. An application that sets up logging itself (`setup_logging`) is left alone, and so are
handlers that it has added.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import _state, signals
from celery.app.log import TaskFormatter
from celery.utils.log import ColorFormatter

from fastq import log


def write_json() -> None:
    """From the next set-up of logging on. Call it before the application's worker is set up."""
    signals.after_setup_logger.connect(_replace, weak=False, dispatch_uid="fastq-json")
    signals.after_setup_task_logger.connect(_replace, weak=False, dispatch_uid="fastq-json-task")


def _replace(logger: logging.Logger, **_facts: Any) -> None:
    # Celery's own handlers are those with its own formatters; those of the task logger are a kind of the others'.
    for handler in logger.handlers:
        if type(handler.formatter) in (ColorFormatter, TaskFormatter):
            handler.setFormatter(log.JsonFormatter(current_task))


def current_task() -> tuple[str, str] | None:
    """(name, id) of the task that runs in this thread."""
    task = _state.get_current_task()
    request = getattr(task, "request", None)
    identity = getattr(request, "id", None)
    return (str(task.name), str(identity)) if identity else None
