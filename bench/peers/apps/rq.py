"""RQ: functions are named by where they are, so there is no application; results are of the job."""

from __future__ import annotations

import datetime
import itertools
import time
from collections.abc import Iterable, Sequence
from typing import Any

from redis import Redis
from rq import Queue

from bench.peers import work

#: Jobs in one `enqueue_many`.
MANY = 500


class Client:
    """As the documentation of queues shows: `enqueue`, and `enqueue_many` for many."""

    def __init__(self) -> None:
        self.queue = Queue(work.QUEUE, connection=Redis.from_url(work.URL))

    def fill(self, task: str, numbers: Sequence[int], *args: Any) -> None:
        rest = iter(numbers)
        while some := list(itertools.islice(rest, MANY)):
            self.queue.enqueue_many([self._data(task, number, args) for number in some])

    def _data(self, task: str, number: int, args: Iterable[Any]) -> Any:
        return Queue.prepare_data(f"bench.peers.work.{task}", (number, *args), **_keeping(task))

    def fill_later(self, task: str, numbers: Sequence[int], due: float, *args: Any) -> None:
        at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=due - time.monotonic())
        for number in numbers:
            self.queue.enqueue_at(at, f"bench.peers.work.{task}", number, *args, **_keeping(task))

    def send(self, task: str, number: int, *args: Any) -> Any:
        return self.queue.enqueue(f"bench.peers.work.{task}", number, *args, **_keeping(task))

    def urgent(self, task: str, number: int, *args: Any) -> None:
        self.queue.enqueue(f"bench.peers.work.{task}", number, *args, at_front=True, **_keeping(task))

    def wait(self, handle: Any, timeout_s: float) -> Any:
        found = handle.latest_result(timeout=int(timeout_s))
        return found.return_value if found else None


def _keeping(task: str) -> dict[str, int]:
    """A result lifetime of 0 is RQ's way to ignore results."""
    return {"result_ttl": 0} if work.TUNED and task not in ("stored", "blob") else {}


client = Client
