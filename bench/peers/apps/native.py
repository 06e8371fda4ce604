"""fastq with an application of its own: `delay` and `get`, and the application's producer for many."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Sequence
from typing import Any

from bench.apps import native
from bench.peers.apps.awaited import in_hundreds
from fastq import chain, chord, group

#: Read last, where 0 is the most urgent.
LAST = 9


class Client:
    """Tasks by their names, as everywhere."""

    def fill(self, task: str, numbers: Sequence[int], *args: Any, **options: Any) -> None:
        many = (((number, *args), None) for number in numbers)
        options = {"ignore_result": native.app.tasks[_name(task)].options.ignore_result, **options}
        for _ in native.app.producer.send_chunks(_name(task), many, **options):
            pass

    def fill_later(self, task: str, numbers: Sequence[int], due: float, *args: Any) -> None:
        eta = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=due - time.monotonic())
        self.fill(task, numbers, *args, eta=eta)

    def fill_last(self, task: str, numbers: Sequence[int], *args: Any) -> None:
        self.fill(task, numbers, *args, priority=LAST)

    def urgent(self, task: str, number: int, *args: Any) -> None:
        self.send(task, number, *args)

    def fill_async(self, task: str, numbers: Sequence[int], *args: Any) -> None:
        asyncio.run(self._fill_async(task, numbers, *args))

    async def _fill_async(self, task: str, numbers: Sequence[int], *args: Any) -> None:
        known = native.app.tasks[_name(task)]
        await in_hundreds(lambda number: known.adelay(number, *args), numbers)

    def send(self, task: str, number: int, *args: Any) -> Any:
        return native.app.tasks[_name(task)].delay(number, *args)

    def wait(self, handle: Any, timeout_s: float) -> Any:
        return handle.get(timeout=timeout_s)

    def chain(self, length: int, number: int, timeout_s: float) -> Any:
        links = [native.step.s(0, number), *(native.step.s(number + more) for more in range(1, length))]
        return chain(*links).delay().get(timeout=timeout_s)

    def group(self, count: int, number: int, timeout_s: float) -> Any:
        return group(native.stored.s(each) for each in range(number, number + count)).delay().get(timeout=timeout_s)

    def chord(self, count: int, number: int, timeout_s: float) -> Any:
        members = [native.stored.s(each) for each in range(number, number + count)]
        return chord(members, native.total.s(number + count)).delay().get(timeout=timeout_s)


def _name(task: str) -> str:
    return f"bench.apps.native.{task}"


client = Client
