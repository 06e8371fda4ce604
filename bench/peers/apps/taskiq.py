"""taskiq with taskiq-redis: the stream broker, which acknowledges; results by its Redis backend, or none at all."""

from __future__ import annotations

import os
from typing import Any

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from bench.peers import work
from bench.peers.apps.awaited import Awaited

#: Results are on or off for a whole broker.
RESULTS = os.environ.get("FASTQ_BENCH_RESULTS", "on") == "on"

#: Seconds between two looks for a result. taskiq polls, by default every 0.2 s.
CHECK_S = 0.001 if work.TUNED else 0.2


def _broker() -> RedisStreamBroker:
    made = RedisStreamBroker(work.URL, queue_name=work.QUEUE)
    if RESULTS:
        made = made.with_result_backend(RedisAsyncResultBackend(work.URL, result_ex_time=3600))
    return made


broker = _broker()


@broker.task
async def noop(number: int) -> None:
    work.noop(number)


@broker.task
async def stored(number: int) -> int:
    return work.stored(number)


#: A plain function goes to the pool of threads.
nap = broker.task(work.nap)
nap_async = broker.task(work.nap_async)


@broker.task
async def spin(number: int, seconds: float) -> None:
    work.spin(number, seconds)


@broker.task
async def blob(number: int, data: str) -> str:
    return work.blob(number, data)


TASKS: dict[str, Any] = {
    "noop": noop, "stored": stored, "nap": nap, "nap_async": nap_async, "spin": spin, "blob": blob,
}  # fmt: skip


class Client(Awaited):
    """`kiq` and `wait_result`."""

    def __init__(self) -> None:
        super().__init__()
        # Makes the consumer group, too: what is sent before there is one, no worker sees.
        self.run(broker.startup())

    def cleared(self) -> None:
        self.run(broker.startup())

    async def post(self, task: str, number: int, *args: Any) -> Any:
        return await TASKS[task].kiq(number, *args)

    async def result(self, handle: Any, timeout_s: float) -> Any:
        found = await handle.wait_result(check_interval=CHECK_S, timeout=timeout_s)
        return found.return_value


client = Client
