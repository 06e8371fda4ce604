"""A monitor: Celery's own event receiver in a thread, and what it has heard."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from tests.eventually import eventually
from tests.fix_redis import Database

#: The last that is heard of a task.
ENDS = ("task-succeeded", "task-failed", "task-revoked")


class Listener:
    """Collect the events of a broker while the `with` block runs."""

    def __init__(self, app: Any, db: Database) -> None:
        self.app, self.db = app, db
        self.heard: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._receiver: Any = None

    def __enter__(self) -> Listener:
        before = self._subscribed()
        self._thread.start()
        eventually(lambda: self._subscribed() > before, saying="the listener has subscribed")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._receiver.should_stop = True
        self._thread.join(10)

    def _subscribed(self) -> int:
        count: Any = self.db.client.execute_command("PUBSUB", "NUMPAT")
        return int(count)

    def _listen(self) -> None:
        with self.app.connection_for_read() as connection:
            self._receiver = self.app.events.Receiver(connection, handlers={"*": self.heard.append})
            for _ in self._receiver.itercapture(limit=None, timeout=None, wakeup=False):
                pass

    def of(self, task_id: str) -> list[dict[str, Any]]:
        """What was heard of one task, in the order of the worker's clock."""
        return sorted((e for e in list(self.heard) if e.get("uuid") == task_id), key=lambda event: event["clock"])

    def types(self, task_id: str) -> list[str]:
        """The types of those."""
        return [str(event["type"]) for event in self.of(task_id)]

    def named(self, kind: str) -> list[dict[str, Any]]:
        """Everything of one type."""
        return [event for event in list(self.heard) if event["type"] == kind]

    def wait(self, task_id: str, *kinds: str, within_s: float = 15.0) -> list[str]:
        """Wait until the types heard of a task end in `kinds`; all types."""
        return eventually(
            lambda: found if (found := self.types(task_id))[-len(kinds) :] == list(kinds) else [],
            within_s=within_s,
            saying=f"{task_id} ends in {kinds}, has {self.types(task_id)}",
        )
