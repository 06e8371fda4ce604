"""An application with queues of every kind of exchange: fanout with and without a pattern, and several bindings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kombu import Exchange, Queue, binding
from kombu.common import Broadcast

from tests.apps import plain
from tests.apps.build import TaskTable

NEWS = Exchange("news", type="fanout")
ALERTS = Exchange("alerts", type="fanout")
DIRECT = Exchange("direct", type="direct")
TOPIC = Exchange("topic", type="topic")


class BroadcastingTable(TaskTable):
    """The plain tasks, with queues that cannot be written as JSON settings."""

    def build(self, settings: Mapping[str, Any], **broker: str) -> Any:
        """As the plain one, with the queues declared."""
        queues = (
            Queue("celery"),
            Broadcast("news"),
            Queue("alarms", ALERTS, routing_key="fire.#"),
            Queue("many", [binding(DIRECT, routing_key="one"), binding(TOPIC, routing_key="two.*")]),
        )
        return super().build({"task_queues": queues, **settings}, **broker)


table = BroadcastingTable()
table.rows = plain.table.rows
app = table.build_from_environment()
