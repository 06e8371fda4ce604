"""Read results, and wait for them, in a program with an event loop: all who wait listen on one connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastq.errors import BrokerError
from fastq.producer.async_line import AsyncLines, PerLoop
from fastq.producer.outcome import Outcome, read_outcome
from fastq.producer.post import Lost, pack
from fastq.producer.store import RESULT_KEY, Deadline, checked, late, refuse, unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastq.producer.async_line import AsyncLine
    from fastq.producer.cancel import AsyncCanceller
    from fastq.transport.connect import Endpoint


class _Channel:
    """Those who wait for one result on the shared connection."""

    def __init__(self) -> None:
        self.users = 0
        self.subscribed = asyncio.Event()
        self.noticed = asyncio.Event()
        self.lost = False


class AsyncStore:
    """The results of one server for a program with an event loop: all who wait listen on one connection."""

    def __init__(
        self, endpoint: Endpoint, *, timeout_s: float, prefix: str, canceller: AsyncCanceller, stored: bool = True
    ) -> None:
        self._stored = stored
        self._lines = AsyncLines(endpoint, timeout_s=timeout_s)
        self._listening = AsyncLines(endpoint, timeout_s=timeout_s, listener=self._hear)
        self._timeout_s = timeout_s
        self._prefix = prefix
        self._canceller = canceller
        self._channels: PerLoop[dict[bytes, _Channel]] = PerLoop(dict)

    def key(self, task_id: str) -> str:
        """The key of a result, which is the name of the channel as well."""
        return f"{self._prefix}{RESULT_KEY}{task_id}"

    async def read(self, task_id: str) -> Outcome:
        """Look at a result. Raises ResultsUnavailable."""
        return read_outcome(await self._ask("GET", self.key(task_id)))

    async def forget(self, task_id: str) -> None:
        """Delete a result. Raises ResultsUnavailable."""
        await self._ask("DEL", self.key(task_id))

    async def cancel(self, task_ids: Sequence[str], *, terminate: bool) -> None:
        """Cancel tasks, on their broker. Raises BrokerError."""
        await self._canceller.cancel(task_ids, terminate=terminate)

    async def _ask(self, *command: str) -> Any:
        refuse(self._stored)
        try:
            (reply,) = await self._lines.ask(pack(*command))
        except (BrokerError, Lost) as error:
            unavailable(error, where=self._lines.where)
        return checked(reply, where=self._lines.where)

    async def wait(self, task_id: str, timeout_s: float | None) -> Outcome:
        """Wait for a final outcome. Raises TimeoutError, or ResultsUnavailable when the store stays away."""
        deadline = Deadline(timeout_s)
        outcome = await self.read(task_id)
        while not outcome.final:
            try:
                outcome = await self._listen(task_id, deadline)
            except (BrokerError, Lost) as error:
                await asyncio.sleep(deadline.failed(error, where=self._listening.where))
                continue
            if not outcome.final and deadline.left_s() <= 0:
                raise late(task_id, timeout_s)
        return outcome

    async def _listen(self, task_id: str, deadline: Deadline) -> Outcome:
        """Listen until the result is there or the time is over. Raises Lost when the connection went away."""
        key = self.key(task_id).encode()
        line = await self._listening.line()
        channel = self._join(line, key)
        try:
            await _within(channel.subscribed, self._timeout_s)
            if channel.lost or not channel.subscribed.is_set():
                raise Lost("no answer to a subscription")
            outcome = await self.read(task_id)
            deadline.succeeded()
            while not outcome.final and (left_s := deadline.left_s()) > 0:
                await _within(channel.noticed, left_s)
                if channel.lost:
                    raise Lost("the connection was closed")
                channel.noticed.clear()
                outcome = await self.read(task_id)
            return outcome
        finally:
            self._leave(line, key, channel)

    def _join(self, line: AsyncLine, key: bytes) -> _Channel:
        channels = self._channels.here()
        channel = channels.get(key)
        if channel is None:
            channel = channels[key] = _Channel()
            line.tell(pack("SUBSCRIBE", key))
        channel.users += 1
        return channel

    def _leave(self, line: AsyncLine, key: bytes, channel: _Channel) -> None:
        channel.users -= 1
        channels = self._channels.here()
        if not channel.users and channels.get(key) is channel:
            del channels[key]
            if line.usable:
                line.tell(pack("UNSUBSCRIBE", key))

    def _hear(self, reply: Any) -> None:
        """What comes on the listening connection; None when it is gone."""
        channels = self._channels.here()
        if reply is None:
            lost = list(channels.values())
            channels.clear()
            for channel in lost:
                channel.lost = True
                channel.subscribed.set()
                channel.noticed.set()
        elif isinstance(reply, list) and (found := channels.get(reply[1])) is not None:
            if reply[0] == b"subscribe":
                found.subscribed.set()
            elif reply[0] == b"message":
                found.noticed.set()

    async def close(self) -> None:
        """Let the connections go."""
        await self._lines.close()
        await self._listening.close()


async def _within(event: asyncio.Event, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except asyncio.TimeoutError:
        pass  # whoever waits looks for itself
