"""Send tasks by name, one or many at a time, without Celery: the same messages at a fraction of the cost."""

from __future__ import annotations

import codecs
from itertools import islice
from typing import TYPE_CHECKING, Any

from fastq.errors import BrokerError, BrokerUnavailable, BufferFull, OptionError
from fastq.producer.compose import Composer, Push
from fastq.producer.first_use import FIRST_USE
from fastq.producer.handle import AsyncHandle, Handle, as_stored
from fastq.producer.options import RETRIES, TIMEOUT_S, ProducerSettings
from fastq.transport.urls import read_urls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from fastq.producer.async_line import AsyncLines
    from fastq.producer.async_store import AsyncStore
    from fastq.producer.buffer import Buffer
    from fastq.producer.cancel import Mailbox
    from fastq.producer.line import Lines
    from fastq.producer.message import Arguments
    from fastq.producer.options import Buffering, SendOptions
    from fastq.producer.post import Post
    from fastq.producer.store import Store
    from fastq.transport.connect import Endpoint
    from fastq.transport.redis.locks import Lock

#: Messages per LPUSH. One costs 140 µs each, 100 cost 7, 500 cost 6, 2,000 cost 7 again (Redis on the same host).
CHUNK = 500


class _Settings:
    """What both producers are made of. No input, no output, and nothing of Redis is imported before it is needed."""

    def __init__(self, url: str | Sequence[str], given: ProducerSettings) -> None:
        unknown = sorted(given.keys() - ProducerSettings.__annotations__.keys())
        if unknown:
            known = ", ".join(ProducerSettings.__annotations__)
            raise OptionError(f"a producer has no setting {', '.join(unknown)}; it has {known}")
        read_urls(url, use_ssl=given.get("use_ssl"))  # what cannot be read is said here, not at the first send
        self._url = url
        self._given = given
        self.composer = Composer(
            queue=given.get("queue", "celery"),
            priority=given.get("priority", 0),
            serializer=given.get("serializer", "json"),
            wire=given.get("wire", "celery"),
            ignore_result=given.get("ignore_result"),
            transport_options=given.get("transport_options"),
        )
        self.confirm = given.get("confirm")
        self.retries = given.get("retries", RETRIES)
        self.timeout_s = given.get("timeout_s", TIMEOUT_S)
        self.result_prefix = given.get("result_prefix", "")
        #: An empty address says that there is none, and that nobody stores results.
        self.stores_results = given.get("result_url") != ""
        self.control_exchange = given.get("control_exchange", "celery")

    def broker(self) -> Endpoint:
        """Where messages go. Raises UrlError or SettingError."""
        from fastq.transport.connect import Endpoint

        given = self._given
        return Endpoint.parse(self._url, transport_options=given.get("transport_options"), use_ssl=given.get("use_ssl"))

    def mailbox(self) -> Mailbox:
        """What cancellations write. Raises UrlError or SettingError."""
        from fastq.producer.cancel import Mailbox

        options = self._given.get("transport_options")
        return Mailbox(options, exchange=self.control_exchange, db=self.broker().db)

    def result_store(self) -> Endpoint:
        """Where results are. Raises UrlError or SettingError."""
        from fastq.transport.connect import RESULT_STORE, Endpoint

        given = self._given
        url = given.get("result_url")
        if not url:
            found = self.broker()
        else:
            found = Endpoint.parse(
                url,
                transport_options=given.get("result_options"),
                use_ssl=given.get("use_ssl"),
                setting="result_backend",
            )
        return Endpoint(found.addresses, options=found.options, role=RESULT_STORE)


class Producer:
    """Sends tasks by name to Redis. Safe to share between threads, and to use in children after a fork.

    `url` is whatever Celery takes for `broker_url`, several addresses included. `queue`, `priority` and
    `ignore_result` hold for every send that does not say otherwise; `wire` is the format of the messages.
    `transport_options` and `use_ssl` are Celery's `broker_transport_options` and `broker_use_ssl`. Results are looked
    for at `result_url` (with `result_options`, Celery's `result_backend_transport_options`), which is `url` unless
    given; "" says that nobody stores any. `confirm` asks for replicas that have a message before it counts as sent.
    `buffer` collects messages and sends them in the background. `timeout_s` is for each step, connecting and
    answering; `retries` are the attempts after the first.

    Nothing is connected before the first use. Every error of the broker is a BrokerError, which knows the ids of the
    tasks that were sent, not sent, or perhaps sent.
    """

    def __init__(
        self, url: str | Sequence[str], *, buffer: Buffering | None = None, **settings: Unpack[ProducerSettings]
    ) -> None:
        self._settings = _Settings(url, settings)
        self._composer = self._settings.composer
        self._made: dict[str, Any] = {}
        self._buffering = buffer
        if buffer is not None:
            if self._settings.confirm is not None:
                raise OptionError("confirm= needs an answer for each send, which buffer= does not wait for; choose one")
            from fastq.producer.buffer import program_ends  # now, since it has something to do at that end

            self._program_ends = program_ends

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Send what a buffer holds, and let the connections go; they are made again if the producer is used again.

        Raises the BrokerError of what a buffer could not send within its `close_s`.
        """
        try:
            buffer: Buffer | None = self._made.pop("buffer", None)
            if buffer is not None and buffer.is_ours:
                buffer.close()
        finally:
            for name in ("lines", "store"):
                if (found := self._made.get(name)) is not None:
                    found.close()

    def send(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        decode: Callable[[Any], Any] = as_stored,
        **options: Unpack[SendOptions],
    ) -> Handle[Any]:
        """Send one task; blocks until Redis has it, or until the buffer has.

        `decode` is applied to the result that the handle will `get`. Raises BrokerError.
        """
        composed = self._composer.one(name, args, kwargs, options)
        self._push(composed)
        return Handle(composed.ids[0], store=self._store, decode=decode, ignored=self._composer.ignores(options))

    def send_once(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        lock: Lock,
        decode: Callable[[Any], Any] = as_stored,
        **options: Unpack[SendOptions],
    ) -> Handle[Any]:
        """Send one task, unless another has this lock: then the handle is that one's, and `existed` is true.

        Lock and message are one step on the broker, past a buffer. Whoever runs the task gives the lock back.
        """
        holder, existed = self._push_once(self._composer.one(name, args, kwargs, options), lock)
        handle = Handle(holder, store=self._store, decode=decode, ignored=self._composer.ignores(options))
        handle.existed = existed
        return handle

    def carry_out(self, command: bytes) -> Any:
        """Have the broker carry out one command that does no harm if it is repeated. Raises BrokerError."""
        return asked(self._lines, command)

    def send_many(
        self, name: str, many: Iterable[Arguments], *, chunk: int = CHUNK, **options: Unpack[SendOptions]
    ) -> list[str]:
        """Send one task for each (args, kwargs) and return their ids in the same order.

        Raises BrokerError, whose `sent_ids` are those of all chunks that were sent.
        """
        sent: list[str] = []
        try:
            for ids in self.send_chunks(name, many, chunk=chunk, **options):
                sent += ids
        except BufferFull as error:
            raise with_taken(error, sent) from error
        except BrokerError as error:
            raise with_sent(error, sent) from error
        return sent

    def send_chunks(
        self, name: str, many: Iterable[Arguments], *, chunk: int = CHUNK, **options: Unpack[SendOptions]
    ) -> Iterator[list[str]]:
        """Send as `send_many` does, while being iterated, and yield the ids of each chunk once Redis has it.

        Countdown and expiry count from the moment at which a chunk is made. Redis takes a chunk whole or not at all.
        """
        rest = iter(many)
        while some := list(islice(rest, chunk)):
            composed = self._composer.many(name, some, options)
            self._push(composed)
            yield composed.ids

    def compose(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[SendOptions],
    ) -> Push:
        """Make the message of one task, and send nothing: for whoever pushes it in one step with something else."""
        return self._composer.one(name, args, kwargs, options)

    def push(self, composed: Sequence[Push]) -> None:
        """Send messages that were composed, together; blocks as `send` does. Raises BrokerError.

        Redis takes each of some hundred whole or not at all. After an error the rest is not tried.
        """
        chunks = [[one] for one in composed] if self._buffering is not None else list(_together(composed))
        for at, some in enumerate(chunks):
            try:
                self._push_chunk(some)
            except BrokerError as error:
                before, after = _ids(chunks[:at]), _ids(chunks[at + 1 :])
                told = with_taken(error, before) if isinstance(error, BufferFull) else with_sent(error, before)
                told.evidence["unsent_ids"] = (*told.unsent_ids, *after)
                raise told from error

    def _push_chunk(self, some: list[Push]) -> None:
        if self._buffering is not None and all(map(self._collected, some)):
            return
        lines = self._lines
        post = lines.post(some, retries=self._settings.retries, confirm=self._settings.confirm)
        lines.deliver(post)
        post.finish()

    def _collected(self, composed: Push) -> bool:
        """Leave it to the buffer; false where the program ends, and nobody would send it."""
        while not self._program_ends():
            buffer = self._buffer
            if buffer.add(composed):
                return True
            if self._made.get("buffer") is buffer:
                del self._made["buffer"]
        return False

    @property
    def results(self) -> Store:
        """The result store."""
        return self._store

    @property
    def stores_results_there(self) -> bool:
        """Tell whether the result store is the same database as the broker."""
        return self._settings.broker() == self._settings.result_store()

    def flush(self, timeout: float | None = None) -> None:
        """Send what the buffer holds, within `timeout` seconds; nothing to do without one.

        Raises BrokerError with the ids of what is left.
        """
        if self._buffering is not None:
            self._buffer.flush(timeout)

    def handle(self, task_id: str, *, decode: Callable[[Any], Any] = as_stored) -> Handle[Any]:
        """Return the handle of a task that was sent, by whomever."""
        return Handle(task_id, store=self._store, decode=decode)

    def _push(self, composed: Push) -> None:
        self._push_chunk([composed])

    def _push_once(self, composed: Push, lock: Lock) -> tuple[str, bool]:
        """Whose the lock is, and whether it was before."""
        from fastq.producer.once import OncePost

        lines, settings = self._lines, self._settings
        post = OncePost(composed, lock, retries=settings.retries, confirm=settings.confirm, where=lines.where)
        lines.deliver(post)
        post.finish()
        return post.holder, post.existed

    # What needs Redis, made on first use. Threads that come at the same time may each make one; all keep the first.

    @property
    def _lines(self) -> Lines:
        found: Lines | None = self._made.get("lines")
        return self._make_lines() if found is None else found

    def _make_lines(self) -> Lines:
        with FIRST_USE:
            from fastq.producer.line import Lines

            codecs.lookup("idna")  # the first connection wants it, perhaps in a buffer's thread
            made = Lines(self._settings.broker(), timeout_s=self._settings.timeout_s)
        found: Lines = self._made.setdefault("lines", made)
        return found

    @property
    def _store(self) -> Store:
        found: Store | None = self._made.get("store")
        return self._make_store() if found is None else found

    def _make_store(self) -> Store:
        with FIRST_USE:
            from fastq.producer.cancel import Canceller
            from fastq.producer.line import Lines
            from fastq.producer.store import Store

            endpoint, timeout_s = self._settings.result_store(), self._settings.timeout_s
            lines, listeners = Lines(endpoint, timeout_s=timeout_s), Lines(endpoint, timeout_s=timeout_s)
            canceller = Canceller(self._lines, self._settings.mailbox())
            store = Store(
                lines,
                listeners,
                prefix=self._settings.result_prefix,
                canceller=canceller,
                stored=self._settings.stores_results,
            )
        found: Store = self._made.setdefault("store", store)
        return found

    @property
    def _buffer(self) -> Buffer:
        found: Buffer | None = self._made.get("buffer")
        if found is None or not found.is_ours:
            found = self._make_buffer(replacing=found)
        return found

    def _make_buffer(self, *, replacing: Buffer | None) -> Buffer:
        """Make the buffer of this process: what a parent had not sent before the fork stays the parent's to send."""
        from fastq.producer.buffer import Buffer

        assert self._buffering is not None
        if replacing is not None:
            self._made.pop("buffer", None)
        made = Buffer(self._lines, self._buffering)
        found: Buffer = self._made.setdefault("buffer", made)
        if found is made:
            made.finish_with(self)
        return found


def _together(composed: Sequence[Push]) -> Iterator[list[Push]]:
    """The same messages in chunks, in as few pushes as there are keys in each."""
    for at in range(0, len(composed), CHUNK):
        by_key: dict[str, Push] = {}
        for one in composed[at : at + CHUNK]:
            found = by_key.setdefault(one.key, Push(one.key, [], []))
            found.messages.extend(one.messages)
            found.ids.extend(one.ids)
        yield list(by_key.values())


def asked(lines: Lines, command: bytes) -> Any:
    """The answer to one command. Raises BrokerError."""
    from hiredis import HiredisError

    from fastq.producer.post import Lost

    try:
        (reply,) = lines.ask(command)
    except Lost as lost:
        raise BrokerUnavailable(f"{lines.where} closed the connection or did not answer: {lost}") from lost
    if isinstance(reply, HiredisError):
        raise lines.explain(str(reply))
    return reply


def _ids(chunks: Sequence[Sequence[Push]]) -> list[str]:
    return [task_id for chunk in chunks for push in chunk for task_id in push.ids]


def with_taken(error: BufferFull, taken: Sequence[str]) -> BufferFull:
    """Return the same error, knowing of what the buffer took before: that is not sent yet, but will be."""
    before = f"; {len(taken)} were taken before" if taken else ""
    return BufferFull(f"{error.message}{before}", **{**error.evidence, "taken_ids": (*taken, *error.taken_ids)})


def with_sent(error: BrokerError, sent: Sequence[str]) -> BrokerError:
    """Return the same error, knowing also of the chunks that were sent before."""
    evidence = {**error.evidence, "sent_ids": (*sent, *error.sent_ids)}
    before = f"; {len(sent)} were sent before" if sent else ""
    return type(error)(f"{error.message}{before}", **evidence)


class AsyncProducer:
    """The same for a program with an event loop: `send`, `send_many` and `send_chunks` are awaited.

    All coroutines of a loop share one connection, on which nobody waits for another's answer: sends that are made at
    the same time (`asyncio.gather`) share round trips, which is why this one has no buffer.
    """

    def __init__(self, url: str | Sequence[str], **settings: Unpack[ProducerSettings]) -> None:
        self._settings = _Settings(url, settings)
        self._composer = self._settings.composer
        self._made: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let the connections go; they are made again if the producer is used again."""
        for name in ("lines", "store"):
            if (found := self._made.get(name)) is not None:
                await found.close()

    async def send(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        decode: Callable[[Any], Any] = as_stored,
        **options: Unpack[SendOptions],
    ) -> AsyncHandle[Any]:
        """Send one task; returns when Redis has it. Raises BrokerError. Who is cancelled meanwhile may have sent it."""
        composed = self._composer.one(name, args, kwargs, options)
        await self._push(composed)
        return AsyncHandle(composed.ids[0], store=self._store, decode=decode, ignored=self._composer.ignores(options))

    async def send_once(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        lock: Lock,
        decode: Callable[[Any], Any] = as_stored,
        **options: Unpack[SendOptions],
    ) -> AsyncHandle[Any]:
        """Send one task, unless another has this lock: then the handle is that one's, and `existed` is true."""
        holder, existed = await self._push_once(self._composer.one(name, args, kwargs, options), lock)
        handle = AsyncHandle(holder, store=self._store, decode=decode, ignored=self._composer.ignores(options))
        handle.existed = existed
        return handle

    async def send_many(
        self, name: str, many: Iterable[Arguments], *, chunk: int = CHUNK, **options: Unpack[SendOptions]
    ) -> list[str]:
        """Send one task for each (args, kwargs) and return their ids in the same order.

        Raises BrokerError, whose `sent_ids` are those of all chunks that were sent.
        """
        sent: list[str] = []
        try:
            async for ids in self.send_chunks(name, many, chunk=chunk, **options):
                sent += ids
        except BrokerError as error:
            raise with_sent(error, sent) from error
        return sent

    async def send_chunks(
        self, name: str, many: Iterable[Arguments], *, chunk: int = CHUNK, **options: Unpack[SendOptions]
    ) -> AsyncIterator[list[str]]:
        """Send as `send_many` does, while being iterated, and yield the ids of each chunk once Redis has it."""
        rest = iter(many)
        while some := list(islice(rest, chunk)):
            composed = self._composer.many(name, some, options)
            await self._push(composed)
            yield composed.ids

    def handle(self, task_id: str, *, decode: Callable[[Any], Any] = as_stored) -> AsyncHandle[Any]:
        """Return the handle of a task that was sent, by whomever."""
        return AsyncHandle(task_id, store=self._store, decode=decode)

    async def _push(self, composed: Push) -> None:
        lines = self._lines
        post: Post = lines.post([composed], retries=self._settings.retries, confirm=self._settings.confirm)
        await lines.deliver(post)
        post.finish()

    async def _push_once(self, composed: Push, lock: Lock) -> tuple[str, bool]:
        from fastq.producer.once import OncePost

        lines, settings = self._lines, self._settings
        post = OncePost(composed, lock, retries=settings.retries, confirm=settings.confirm, where=lines.where)
        await lines.deliver(post)
        post.finish()
        return post.holder, post.existed

    @property
    def _lines(self) -> AsyncLines:
        found: AsyncLines | None = self._made.get("lines")
        if found is None:
            from fastq.producer.async_line import AsyncLines

            made = AsyncLines(self._settings.broker(), timeout_s=self._settings.timeout_s)
            found = self._made.setdefault("lines", made)
        return found

    @property
    def _store(self) -> AsyncStore:
        found: AsyncStore | None = self._made.get("store")
        if found is None:
            from fastq.producer.async_store import AsyncStore
            from fastq.producer.cancel import AsyncCanceller

            store = AsyncStore(
                self._settings.result_store(),
                timeout_s=self._settings.timeout_s,
                prefix=self._settings.result_prefix,
                stored=self._settings.stores_results,
                canceller=AsyncCanceller(self._lines, self._settings.mailbox()),
            )
            found = self._made.setdefault("store", store)
        return found
