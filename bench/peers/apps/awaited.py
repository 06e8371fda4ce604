"""What the clients of asynchronous systems share: an event loop that runs while a call is made."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

#: Sends under way at once. More do not help a single process.
AT_ONCE = 100


async def in_hundreds(post: Callable[[int], Awaitable[Any]], numbers: Iterable[int]) -> None:
    """Send all, so many at a time."""
    rest = iter(numbers)
    while some := list(itertools.islice(rest, AT_ONCE)):
        await asyncio.gather(*map(post, some))


class Awaited:
    """A blocking face of coroutines. `post` and `result` are the system's own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    async def post(self, task: str, number: int, *args: Any) -> Any:
        """Send one."""
        raise NotImplementedError

    async def result(self, handle: Any, timeout_s: float) -> Any:
        """Wait for one."""
        raise NotImplementedError

    def fill(self, task: str, numbers: Sequence[int], *args: Any) -> None:
        self.run(in_hundreds(lambda number: self.post(task, number, *args), numbers))

    fill_async = fill

    def send(self, task: str, number: int, *args: Any) -> Any:
        return self.run(self.post(task, number, *args))

    def wait(self, handle: Any, timeout_s: float) -> Any:
        return self.run(self.result(handle, timeout_s))

    def wait_all(self, handles: Sequence[Any], timeout_s: float) -> list[Any]:
        return list(self.run(self._results(handles, timeout_s)))

    async def _results(self, handles: Sequence[Any], timeout_s: float) -> list[Any]:
        return await asyncio.gather(*(self.result(each, timeout_s) for each in handles))
