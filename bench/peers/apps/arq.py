"""arq: coroutines in a list of functions, a class of settings for its worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from arq import func
from arq.connections import RedisSettings, create_pool

from bench.peers import work
from bench.peers.apps.awaited import Awaited, in_hundreds

if work.TUNED:
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

#: Seconds between two looks for a result. arq polls, by default every 0.5 s.
CHECK_S = 0.001 if work.TUNED else 0.5


async def noop(_context: Any, number: int) -> None:
    work.noop(number)


async def stored(_context: Any, number: int) -> int:
    return work.stored(number)


async def nap(_context: Any, number: int, seconds: float) -> None:
    """What blocks goes to an executor, as the documentation of synchronous jobs shows."""
    await asyncio.get_running_loop().run_in_executor(None, work.nap, number, seconds)


async def nap_async(_context: Any, number: int, seconds: float) -> None:
    await work.nap_async(number, seconds)


async def spin(_context: Any, number: int, seconds: float) -> None:
    work.spin(number, seconds)


async def blob(_context: Any, number: int, data: str) -> str:
    return work.blob(number, data)


class WorkerSettings:
    """What `arq` on the command line reads."""

    functions = (
        # keep_result=0 is arq's way to ignore results.
        [func(each, keep_result=0) for each in (noop, nap, nap_async, spin)] + [stored, blob]
        if work.TUNED
        else [noop, stored, nap, nap_async, spin, blob]
    )
    redis_settings = RedisSettings.from_dsn(work.URL)
    queue_name = work.QUEUE


if work.TUNED:
    WorkerSettings.max_jobs = 100  # type: ignore[attr-defined]
    WorkerSettings.poll_delay = 0.01  # type: ignore[attr-defined]


class Client(Awaited):
    """`enqueue_job` of a pool, and `result` of what it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.pool: Any = self.run(create_pool(RedisSettings.from_dsn(work.URL), default_queue_name=work.QUEUE))

    async def post(self, task: str, number: int, *args: Any) -> Any:
        return await self.pool.enqueue_job(task, number, *args)

    async def result(self, handle: Any, timeout_s: float) -> Any:
        return await handle.result(timeout=timeout_s, poll_delay=CHECK_S)

    def fill_later(self, task: str, numbers: Sequence[int], due: float, *args: Any) -> None:
        async def post(number: int) -> None:
            await self.pool.enqueue_job(task, number, *args, _defer_by=due - time.monotonic())

        self.run(in_hundreds(post, numbers))


client = Client
