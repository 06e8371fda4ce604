"""Make a Celery application from a table of tasks: the same one for the worker and for the test's client."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from celery import Celery

F = TypeVar("F", bound=Callable[..., Any])


class TaskTable:
    """Plain functions with the options they are registered with."""

    def __init__(self) -> None:
        self.rows: list[tuple[Callable[..., Any], dict[str, Any]]] = []

    def task(self, name: str, **options: Any) -> Callable[[F], F]:
        """Note the function under `name`; it stays an ordinary function."""

        def note(function: F) -> F:
            self.rows.append((function, {"name": name, **options}))
            return function

        return note

    def build(self, settings: Mapping[str, Any], **broker: str) -> Any:
        """A Celery application with every task of the table."""
        app = Celery("tests", set_as_current=False, **broker)
        app.conf.update(settings)
        for function, options in self.rows:
            app.task(shared=False, **options)(function)
        app.finalize()
        return app

    def build_from_environment(self) -> Any:
        """The worker's application, with the settings of the test that starts it."""
        settings = json.loads(os.environ.get("FASTQ_TEST_SETTINGS", "{}"))
        broker = os.environ.get("FASTQ_TEST_BROKER", "redis://127.0.0.1:6379/0")
        app = self.build(settings, broker=broker, backend=os.environ.get("FASTQ_TEST_BACKEND", broker))
        if "FASTQ_TEST_FOLDER" in os.environ:  # in a worker; a test process keeps its default application
            app.set_current()
            app.set_default()
        return app
