"""Huey: tasks by decorator, results on for all of an instance or for none."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from typing import Any

from huey import RedisHuey, chord, group

from bench.peers import work

#: Results are told by a notification instead of being polled for: faster for who waits, documented as an option.
OPTIONS: dict[str, Any] = {"notify_result": True} if work.TUNED else {}

huey = RedisHuey(work.QUEUE, url=work.URL, **OPTIONS)

noop = huey.task()(work.noop)
stored = huey.task()(work.stored)
nap = huey.task()(work.nap)
spin = huey.task()(work.spin)
blob = huey.task()(work.blob)

TASKS = {"noop": noop, "stored": stored, "nap": nap, "spin": spin, "blob": blob}


@huey.task()
def step(number: int, value: int = 0) -> int:
    """A link of a chain: what the one before returned is put behind the other arguments."""
    return work.step(value, number)


@huey.task()
def end(number: int, values: list[int]) -> int:
    """The end of a chord."""
    return work.total(values, number)


class Client:
    """A call is a send."""

    def fill(self, task: str, numbers: Sequence[int], *args: Any) -> None:
        send = TASKS[task]
        for number in numbers:
            send(number, *args)

    def fill_later(self, task: str, numbers: Sequence[int], due: float, *args: Any) -> None:
        at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=due - time.monotonic())
        for number in numbers:
            TASKS[task].schedule((number, *args), eta=at)

    def send(self, task: str, number: int, *args: Any) -> Any:
        return TASKS[task](number, *args)

    def wait(self, handle: Any, timeout_s: float) -> Any:
        return handle.get(blocking=True, timeout=timeout_s)

    def chain(self, length: int, number: int, timeout_s: float) -> Any:
        links = step.s(number)
        for more in range(1, length):
            links = links.then(step, number + more)
        *_, last = huey.enqueue(links)
        return last.get(blocking=True, timeout=timeout_s)

    def group(self, count: int, number: int, timeout_s: float) -> Any:
        found = huey.enqueue(group([stored.s(each) for each in range(number, number + count)]))
        return found.get(blocking=True, timeout=timeout_s)

    def chord(self, count: int, number: int, timeout_s: float) -> Any:
        members = [stored.s(each) for each in range(number, number + count)]
        found = huey.enqueue(chord(members, end.s(number + count)))
        return found.get(blocking=True, timeout=timeout_s)


client = Client
