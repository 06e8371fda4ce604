"""JSON where Celery has set logging up; what the application has set up stays as it is."""

from __future__ import annotations

import json
import logging

from celery import Celery, _state
from celery.app.log import TaskFormatter
from celery.utils.log import ColorFormatter

from fastq import log
from fastq.compat.celery.logs import _replace, current_task


class Own(ColorFormatter):  # type: ignore[misc]
    """The application's."""


def test_only_celerys_own_handlers_are_changed() -> None:
    logger = logging.Logger("some")
    formatters = [
        ColorFormatter("%(message)s"),
        TaskFormatter("%(message)s"),
        Own("%(message)s"),
        logging.Formatter("%(message)s"),
        None,
    ]
    for formatter in formatters:
        handler = logging.StreamHandler()
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    _replace(logger=logger)
    assert [isinstance(handler.formatter, log.JsonFormatter) for handler in logger.handlers] == [
        True,
        True,
        *[False] * 3,
    ]


def _some() -> None:
    """A task."""


def test_lines_have_the_task_of_their_thread() -> None:
    app = Celery("lab", broker="memory://", set_as_current=False)
    task = app.task(name="t.some", shared=False)(_some)
    assert current_task() is None
    _state._task_stack.push(task)
    task.push_request(id="id-1")
    try:
        record = logging.LogRecord("x", logging.INFO, "", 1, "said", (), None)
        found = json.loads(log.JsonFormatter(current_task).format(record))
    finally:
        task.pop_request()
        _state._task_stack.pop()
    assert (found["task_name"], found["task_id"]) == ("t.some", "id-1")
