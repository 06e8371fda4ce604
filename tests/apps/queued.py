"""An application with declared queues, one of them bound to a topic exchange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kombu import Exchange, Queue

from tests.apps import plain
from tests.apps.build import TaskTable

QUEUES = (
    Queue("one"),
    Queue("two"),
    Queue("three"),
    Queue("topicq", Exchange("topicex", type="topic"), routing_key="a.#"),
)


class QueuedTable(TaskTable):
    """The plain tasks, with queues that cannot be written as JSON settings."""

    def build(self, settings: Mapping[str, Any], **broker: str) -> Any:
        """As the plain one, with the queues declared."""
        return super().build({"task_queues": QUEUES, "task_default_queue": "one", **settings}, **broker)


table = QueuedTable()
table.rows = plain.table.rows
app = table.build_from_environment()
