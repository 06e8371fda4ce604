"""SAQ: coroutines in a dictionary of settings; a job is also its result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from saq import Queue

from bench.peers import work
from bench.peers.apps.awaited import Awaited, in_hundreds

if work.TUNED:
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

#: Seconds between two looks for a result. `Queue.apply` polls, by default every 0.5 s.
CHECK_S = 0.001 if work.TUNED else 0.5

queue = Queue.from_url(work.URL, name=work.QUEUE)


async def noop(_context: Any, *, number: int) -> None:
    work.noop(number)


async def stored(_context: Any, *, number: int) -> int:
    return work.stored(number)


def nap(_context: Any, *, number: int, more: list[Any]) -> None:
    """A plain function goes to the pool of threads."""
    work.nap(number, more[0])


async def nap_async(_context: Any, *, number: int, more: list[Any]) -> None:
    await work.nap_async(number, more[0])


async def spin(_context: Any, *, number: int, more: list[Any]) -> None:
    work.spin(number, more[0])


async def blob(_context: Any, *, number: int, more: list[Any]) -> str:
    return work.blob(number, more[0])


settings: dict[str, Any] = {
    "queue": queue,
    "functions": [noop, stored, nap, nap_async, spin, blob],
    **({"concurrency": 100} if work.TUNED else {}),
}


class Client(Awaited):
    """`enqueue`, and `refresh` of the job it returns, as `Queue.apply` does it."""

    def __init__(self) -> None:
        super().__init__()
        self.run(queue.connect())

    async def post(self, task: str, number: int, *args: Any, **options: Any) -> Any:
        # A time to live of -1 is SAQ's way to keep no result.
        keeping = {"ttl": -1} if work.TUNED and task not in ("stored", "blob") else {}
        more = {"more": list(args)} if args else {}
        return await queue.enqueue(task, number=number, **more, **keeping, **options)

    async def result(self, handle: Any, timeout_s: float) -> Any:
        # Not by `refresh(until_complete=...)`: it listens only after it has looked, and misses an end in between.
        until = time.monotonic() + timeout_s
        while not handle.completed:
            await handle.refresh()
            if not handle.completed:
                await asyncio.sleep(CHECK_S)
                _in_time(until)
        return handle.result

    def fill_later(self, task: str, numbers: Sequence[int], due: float, *args: Any) -> None:
        # Whole seconds of the wall clock.
        at = round(time.time() + due - time.monotonic())
        self.run(in_hundreds(lambda number: self.post(task, number, *args, scheduled=at), numbers))


def _in_time(until: float) -> None:
    if time.monotonic() > until:
        raise TimeoutError("no result in time")


client = Client
