"""Send tasks by name, one or many at a time, without Celery: the same messages at a fraction of the cost."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio

from fastq import clock
from fastq.errors import OptionError
from fastq.producer.handle import AsyncHandle, Handle
from fastq.producer.ids import uuids
from fastq.producer.message import Stencil
from fastq.producer.options import Keys, Options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from fastq.producer.message import Arguments
    from fastq.producer.options import SendOptions

#: Messages per LPUSH. One costs 140 µs each, 100 cost 7, 500 cost 6, 2,000 cost 7 again (Redis on the same host).
CHUNK = 500


class _Composer:
    """What both producers share: from a call to a Redis key and the messages for it. No input, no output."""

    def __init__(
        self,
        *,
        queue: str,
        priority: int,
        serializer: str,
        ignore_result: bool | None,
        transport_options: Mapping[str, Any] | None,
        result_prefix: str,
    ) -> None:
        if serializer != "json":
            raise OptionError(f"the producer writes serializer 'json' only, not {serializer!r}; send it with Celery")
        self._queue = queue
        self._priority = priority
        self._ignore_result = ignore_result
        self._keys = Keys.from_options(transport_options)
        self.result_prefix = result_prefix
        # Celery names the queue of the thread here, for results by rpc://. We store none there, so one name is enough.
        self._reply_to = uuids(1)[0]

    def compose(self, name: str, many: Sequence[Arguments], options: Options) -> tuple[str, list[str], list[str]]:
        """Return the key to push to, the envelopes and the task ids, in the order of `many`."""
        queue = options.queue or self._queue
        priority = self._priority if options.priority is None else options.priority
        stencil = Stencil(
            name, options=options, queue=queue, priority=priority, reply_to=self._reply_to, now=clock.utc_now()
        )
        ids = uuids(2 * len(many))
        if options.task_id is not None:
            ids[0] = options.task_id
        return self._keys.key(queue, priority=priority), stencil.fill(many, ids), ids[::2]

    def options(self, given: SendOptions) -> Options:
        """Check the options of one call. Raises OptionError for one that does not exist."""
        if self._ignore_result is not None:
            given = {"ignore_result": self._ignore_result, **given}
        try:
            return Options(**given)
        except TypeError as exc:
            raise OptionError(f"{exc}; the options of a send are {', '.join(Options.__struct_fields__)}") from exc

    def bulk_options(self, given: SendOptions) -> Options:
        """Check the options of many messages, which cannot have one id between them."""
        options = self.options(given)
        if options.task_id is not None:
            raise OptionError(f"task_id={options.task_id!r} is for one message; send_many makes an id for each")
        return options


class Producer:
    """Sends tasks by name to Redis. Safe to share between threads, and to use in a child after a fork.

    `queue`, `priority` and `ignore_result` hold for every send that does not say otherwise. `transport_options` are
    Celery's `broker_transport_options`, of which `global_keyprefix`, `sep` and `priority_steps` matter here; results
    are looked for at `result_url`, which is `url` unless given. Connection errors are tried again by redis-py, so
    that a message can get sent twice, with the same id, when a connection breaks at the wrong moment: as with Celery.
    """

    def __init__(
        self,
        url: str,
        *,
        queue: str = "celery",
        priority: int = 0,
        serializer: str = "json",
        ignore_result: bool | None = None,
        transport_options: Mapping[str, Any] | None = None,
        result_url: str | None = None,
        result_prefix: str = "",
    ) -> None:
        self._composer = _Composer(
            queue=queue,
            priority=priority,
            serializer=serializer,
            ignore_result=ignore_result,
            transport_options=transport_options,
            result_prefix=result_prefix,
        )
        self._client = redis.Redis.from_url(url)
        self._results = redis.Redis.from_url(result_url) if result_url else self._client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go. Handles cannot be waited for afterwards."""
        self._client.close()
        self._results.close()

    def send(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[SendOptions],
    ) -> Handle:
        """Send one task; blocks until Redis has it."""
        key, messages, ids = self._composer.compose(name, [(args, kwargs)], self._composer.options(options))
        self._client.lpush(key, *messages)
        return self.handle(ids[0])

    def send_many(
        self, name: str, many: Iterable[Arguments], *, chunk: int = CHUNK, **options: Unpack[SendOptions]
    ) -> list[str]:
        """Send one task for each (args, kwargs) and return their ids in the same order."""
        return [task_id for ids in self.send_chunks(name, many, chunk=chunk, **options) for task_id in ids]

    def send_chunks(
        self, name: str, many: Iterable[Arguments], *, chunk: int = CHUNK, **options: Unpack[SendOptions]
    ) -> Iterator[list[str]]:
        """Send as `send_many` does, while being iterated, and yield the ids of each chunk once Redis has it.

        Countdown and expiry count from the moment at which a chunk is made.
        """
        checked = self._composer.bulk_options(options)
        rest = iter(many)
        while some := list(islice(rest, chunk)):
            key, messages, ids = self._composer.compose(name, some, checked)
            self._client.lpush(key, *messages)
            yield ids

    def handle(self, task_id: str) -> Handle:
        """Return the handle of a task that was sent, by whomever."""
        return Handle(task_id, client=self._results, prefix=self._composer.result_prefix)


class AsyncProducer:
    """The same for a program with an event loop: `send`, `send_many` and `send_chunks` are awaited."""

    def __init__(
        self,
        url: str,
        *,
        queue: str = "celery",
        priority: int = 0,
        serializer: str = "json",
        ignore_result: bool | None = None,
        transport_options: Mapping[str, Any] | None = None,
        result_url: str | None = None,
        result_prefix: str = "",
    ) -> None:
        self._composer = _Composer(
            queue=queue,
            priority=priority,
            serializer=serializer,
            ignore_result=ignore_result,
            transport_options=transport_options,
            result_prefix=result_prefix,
        )
        self._client: Any = redis.asyncio.Redis.from_url(url)
        self._results = redis.asyncio.Redis.from_url(result_url) if result_url else self._client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let the connections go. Handles cannot be waited for afterwards."""
        await self._client.aclose()
        await self._results.aclose()

    async def send(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[SendOptions],
    ) -> AsyncHandle:
        """Send one task; returns when Redis has it."""
        key, messages, ids = self._composer.compose(name, [(args, kwargs)], self._composer.options(options))
        await self._client.lpush(key, *messages)
        return self.handle(ids[0])

    async def send_many(
        self, name: str, many: Iterable[Arguments], *, chunk: int = CHUNK, **options: Unpack[SendOptions]
    ) -> list[str]:
        """Send one task for each (args, kwargs) and return their ids in the same order."""
        return [task_id async for ids in self.send_chunks(name, many, chunk=chunk, **options) for task_id in ids]

    async def send_chunks(
        self, name: str, many: Iterable[Arguments], *, chunk: int = CHUNK, **options: Unpack[SendOptions]
    ) -> AsyncIterator[list[str]]:
        """Send as `send_many` does, while being iterated, and yield the ids of each chunk once Redis has it."""
        checked = self._composer.bulk_options(options)
        rest = iter(many)
        while some := list(islice(rest, chunk)):
            key, messages, ids = self._composer.compose(name, some, checked)
            await self._client.lpush(key, *messages)
            yield ids

    def handle(self, task_id: str) -> AsyncHandle:
        """Return the handle of a task that was sent, by whomever."""
        return AsyncHandle(task_id, client=self._results, prefix=self._composer.result_prefix)
