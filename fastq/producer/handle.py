"""Wait for one task's result where Celery stores it: subscribe first, then look, then wait."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from fastq import clock
from fastq.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis.asyncio
    from redis import Redis

#: What stands before a task's id in the key, and in the channel of the same name.
RESULT_KEY = "celery-task-meta-"

#: States after which nothing more comes.
FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})

#: Seconds after which a waiter looks at the key although nobody called: a notice can get lost with a connection.
LOOK_AGAIN_S = 5.0

_READ: dict[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": lambda value: UUID(**value),
    "bytes": lambda value: value.encode("utf-8"),
    "base64": b64decode,
}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a task's result now."""

    status: str = "PENDING"
    result: Any = None
    traceback: str | None = None

    @property
    def final(self) -> bool:
        """Tell whether it will stay as it is."""
        return self.status in FINAL

    def value(self, task_id: str) -> Any:
        """Return the result of a success. Raises TaskError, with the outcome as evidence, for anything else."""
        if self.status == "SUCCESS":
            return self.result
        raise TaskError(f"task {task_id} ended as {self.status}: {self._reason()}", outcome=self, task_id=task_id)

    def _reason(self) -> str:
        found = self.result
        if not isinstance(found, dict) or "exc_type" not in found:
            return repr(found)
        return f"{found['exc_type']}{tuple(found.get('exc_message') or ())!r}"


def read_outcome(stored: bytes | str | None) -> Outcome:
    """Read a stored result; an absent one is pending, as for Celery."""
    if stored is None:
        return Outcome()
    meta = json.loads(stored, object_hook=_revive)
    return Outcome(status=meta["status"], result=meta.get("result"), traceback=meta.get("traceback"))


def _revive(found: dict[str, Any]) -> Any:
    if found.keys() != {"__type__", "__value__"}:
        return found
    read = _READ.get(found["__type__"])
    return found if read is None else read(found["__value__"])


def _late(task_id: str, timeout_s: float) -> TimeoutError:
    return TimeoutError(f"task {task_id} has no result after {timeout_s:g} s; is a worker running on its queue?")


class Handle:
    """A task that was sent: its id, and its result once there is one."""

    __slots__ = ("_client", "_prefix", "id")

    def __init__(self, task_id: str, *, client: Redis, prefix: str = "") -> None:
        self.id = task_id
        self._client = client
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"<Handle {self.id}>"

    @property
    def key(self) -> str:
        """The key of the result, which is the name of the channel as well."""
        return f"{self._prefix}{RESULT_KEY}{self.id}"

    def outcome(self) -> Outcome:
        """Look at the result without waiting."""
        stored: Any = self._client.get(self.key)
        return read_outcome(stored)

    def get(self, timeout_s: float | None = None) -> Any:
        """Wait for the result and return it. Raises TaskError if the task failed, TimeoutError if it takes longer."""
        subscriber: Any = self._client
        with subscriber.pubsub(ignore_subscribe_messages=True) as channel:
            channel.subscribe(self.key)
            return self._wait(channel, timeout_s=timeout_s).value(self.id)

    def _wait(self, channel: Any, *, timeout_s: float | None) -> Outcome:
        deadline = None if timeout_s is None else clock.monotonic() + timeout_s
        while not (outcome := self.outcome()).final:
            left_s = LOOK_AGAIN_S if deadline is None else deadline - clock.monotonic()
            if left_s <= 0:
                raise _late(self.id, timeout_s or 0.0)
            _await_notice(channel, clock.monotonic() + min(left_s, LOOK_AGAIN_S))
        return outcome


def _await_notice(channel: Any, until: float) -> None:
    """Return at the next message on the channel, or at `until`; the confirmation of the subscription is none."""
    while (left_s := until - clock.monotonic()) > 0:
        if channel.get_message(timeout=left_s) is not None:
            return


class AsyncHandle:
    """The same for a program with an event loop."""

    __slots__ = ("_client", "_prefix", "id")

    def __init__(self, task_id: str, *, client: redis.asyncio.Redis, prefix: str = "") -> None:
        self.id = task_id
        self._client = client
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"<AsyncHandle {self.id}>"

    @property
    def key(self) -> str:
        """The key of the result, which is the name of the channel as well."""
        return f"{self._prefix}{RESULT_KEY}{self.id}"

    async def outcome(self) -> Outcome:
        """Look at the result without waiting for the task."""
        return read_outcome(await self._client.get(self.key))

    async def get(self, timeout_s: float | None = None) -> Any:
        """Wait for the result and return it. Raises TaskError if the task failed, TimeoutError if it takes longer."""
        async with self._client.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(self.key)
            return (await self._wait(channel, timeout_s=timeout_s)).value(self.id)

    async def _wait(self, channel: Any, *, timeout_s: float | None) -> Outcome:
        deadline = None if timeout_s is None else clock.monotonic() + timeout_s
        while not (outcome := await self.outcome()).final:
            left_s = LOOK_AGAIN_S if deadline is None else deadline - clock.monotonic()
            if left_s <= 0:
                raise _late(self.id, timeout_s or 0.0)
            await _await_notice_async(channel, clock.monotonic() + min(left_s, LOOK_AGAIN_S))
        return outcome


async def _await_notice_async(channel: Any, until: float) -> None:
    while (left_s := until - clock.monotonic()) > 0:
        if await channel.get_message(timeout=left_s) is not None:
            return
