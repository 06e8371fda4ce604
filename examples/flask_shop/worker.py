"""What a worker is started with: the factory's application, whose context each task runs in."""

from __future__ import annotations

from typing import Any

from examples.flask_shop import create_app
from examples.flask_shop.tasks import queue
from fastq import signals

flask = create_app()
contexts: dict[str, Any] = {}

__all__ = ["queue"]


@signals.task_prerun.connect
def enter(task_id: str, **_fields: Any) -> None:
    """`current_app` and what hangs on it (a database session, say) are there in the task."""
    contexts[task_id] = flask.app_context()
    contexts[task_id].push()


@signals.task_postrun.connect
def leave(task_id: str, **_fields: Any) -> None:
    """Teardown functions run now."""
    contexts.pop(task_id).pop()
