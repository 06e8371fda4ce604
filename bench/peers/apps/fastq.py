"""fastq with its own producer. The application is a Celery one; workflows are made by Celery's canvas."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from bench.peers import work
from bench.peers.apps import celery
from bench.peers.apps.awaited import in_hundreds
from fastq.producer import AsyncProducer


class Client(celery.Client):
    """`Producer.send` and the handle it returns."""

    send_many = celery.Client.fill

    def send(self, task: str, number: int, *args: Any) -> Any:
        return self.bulk.send(f"bench.apps.tasks.{task}", (number, *args))

    def wait(self, handle: Any, timeout_s: float) -> Any:
        return handle.get(timeout=timeout_s)

    def fill_async(self, task: str, numbers: Sequence[int], *args: Any) -> None:
        asyncio.run(self._fill_async(task, numbers, *args))

    async def _fill_async(self, task: str, numbers: Sequence[int], *args: Any) -> None:
        async with AsyncProducer(work.URL, queue=work.QUEUE) as producer:
            await in_hundreds(lambda number: producer.send(f"bench.apps.tasks.{task}", (number, *args)), numbers)


client = Client
