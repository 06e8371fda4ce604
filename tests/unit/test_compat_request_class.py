"""What is said at start of a Request class that the application brings. What is honoured: test_task_life."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.worker.request import Request

from fastq.compat.celery.request_class import unheard


class Heard(Request):  # type: ignore[misc]
    """Overrides what is called here, too."""

    def on_failure(self, *args: Any, **kwargs: Any) -> Any:
        return super().on_failure(*args, **kwargs)


class Unheard(Heard):
    """Overrides what only Celery's own pool and remote control call."""

    def terminate(self, pool: Any, signal: Any = None) -> Any:
        return super().terminate(pool, signal)


def task() -> None:
    """Does nothing."""


def lines(request_class: type) -> list[str]:
    app = Celery("requests", set_as_current=False)
    for name, given in (("t.one", request_class), ("t.two", f"{__name__}:{request_class.__name__}")):
        app.task(name=name, Request=given, shared=False)(task)
    app.finalize()
    return unheard(app)


def test_methods_that_nobody_calls_are_named_once() -> None:
    assert lines(Heard) == []
    assert lines(Unheard) == [f"{__name__}.Unheard.terminate is ignored: requests are not kept in a main process"]
