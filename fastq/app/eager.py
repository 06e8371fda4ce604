"""Run tasks where they are sent, at once: for tests, `task.apply` and `task_always_eager`.

Nothing is cut short but the way to a worker: the message is written and read again on the application's wire, arguments
are converted, hooks and signals called, retries executed, and results stored as on Redis and read by handles. There is
no time: delays, due times, expiry and time limits do nothing. A sender that is itself a task gets its results, too.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import hiredis

from fastq import frames
from fastq.app.running import context
from fastq.app.running.context import Request
from fastq.app.running.execute import End, Executor
from fastq.app.running.results import Results
from fastq.app.running.slots import Slots
from fastq.child.letters import Letters
from fastq.memory import Keyspace
from fastq.producer import AsyncProducer, Producer
from fastq.producer.async_store import AsyncStore
from fastq.producer.outcome import Outcome
from fastq.producer.store import Store, late
from fastq.wire.envelope import read_header

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from fastq.app.app import FastQ
    from fastq.app.task import BaseTask
    from fastq.producer.compose import Push
    from fastq.transport.redis.locks import Lock

#: What `task.request.hostname` says.
NODE = "eager@localhost"


class Ran:
    """One attempt that was made."""

    def __init__(self, name: str, task_id: str, end: End) -> None:
        self.name: str = name
        self.id: str = task_id
        #: SUCCESS, RETRY, FAILURE, IGNORED or REJECTED.
        self.state: str = end.state
        self.value: Any = end.value
        self.error: BaseException | None = end.error

    def __repr__(self) -> str:
        return f"<Ran {self.name}[{self.id}] {self.state}>"


class _Frame:
    """A door that leads nowhere: what a task stores goes to the keyspace, what becomes of the message is forgotten."""

    kind, flags, queue, telling, engine_pid, worker = frames.TASK, 0, b"", False, 0, b""

    def __init__(self, raw: bytes, *, space: Keyspace) -> None:
        self._raw, self._space = raw, space

    def payload(self) -> bytes:
        return self._raw

    def store(self, commands: int, data: bytes) -> None:
        run(self._space, data, commands)

    def outcome(self, _outcome: int, commands: int, data: bytes) -> None:
        self.store(commands, data)

    def finish(self) -> None:
        """Nothing was stored."""

    def note_end(self, _end: int) -> None:
        """Nobody counts."""


def run(space: Keyspace, commands: bytes, count: int) -> list[Any]:
    """The answers of a keyspace to so many commands."""
    reader = hiredis.Reader()
    reader.feed(commands)
    return [space.run(reader.gets()) for _ in range(count)]


class _Executor(Executor):
    """Notes how each attempt has ended."""

    eager: Eager | None = None
    end: End | None = None

    def conclude(self, task: BaseTask[Any, Any], request: Request, end: End, *, raw: bytes, late: bool) -> None:
        """As in a child; a task that leaves its process leaves nothing here."""
        self.end = end
        try:
            super().conclude(task, request, end, raw=raw, late=late)
        except SystemExit:
            if isinstance(end.error, KeyboardInterrupt):
                raise end.error from None

    @property
    def producer(self) -> Producer:
        """Retries are run here, wherever other tasks go."""
        assert self.eager is not None
        return self.eager.producer

    def freed(
        self, task: BaseTask[Any, Any], request: Request, end: End | None, stored: tuple[int, bytes], *, late: bool
    ) -> tuple[tuple[int, bytes], list[bytes]]:
        """Nothing waits here, so there are no locks and slots."""
        return stored, []

    def caller(self, task: BaseTask[Any, Any]) -> Any:
        """What calls the function; of a coroutine function, what runs it to its end."""
        found = super().caller(task)
        return to_its_end(found) if task.is_coroutine else found


class _EverySlot(Slots):
    """Tasks run one after the other here, in the order of what sends them."""

    def take(self, executor: Executor, task: BaseTask[Any, Any], request: Request, raw: bytes) -> bool:
        """Yes."""
        return True


class Eager:
    """Runs what one application sends. Threads may share it; each runs what it has sent."""

    def __init__(self, app: FastQ, *, propagates: bool = False) -> None:
        self.app: FastQ = app
        #: Whether a task's error is raised where it was sent.
        self.propagates: bool = propagates
        #: Every attempt, in the order in which they ended.
        self.ran: list[Ran] = []
        self._space = Keyspace()
        self._now = _Now()
        self._before: tuple[Eager | None, str | None] = (None, None)
        prefix = app.conf.result_backend_transport_options.get("global_keyprefix") or ""
        self.store: _Store = _Store(self._space, prefix=str(prefix))
        self.producer: Producer = _EagerProducer(self)
        self.async_producer: AsyncProducer = _EagerAsyncProducer(self)

    def __repr__(self) -> str:
        return f"<Eager {self.app.name} ran={len(self.ran)}>"

    def __enter__(self) -> Self:
        conf = self.app.conf
        self._before, self.app._eager = (self.app._eager, conf.result_backend), self
        conf.result_backend = conf.result_backend or conf.broker_url  # results are stored here in any case
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.app._eager, self.app.conf.result_backend = self._before

    def take(self, push: Push) -> None:
        """Run messages that were composed. Raises a task's error if errors propagate."""
        for message, task_id in zip(push.messages, push.ids, strict=True):
            raw = message.encode() if isinstance(message, str) else bytes(message)
            if task_id in self._now.running:
                self._now.again.append(raw)  # a retry: this attempt ends first
            else:
                self._run(raw, task_id)

    def _run(self, raw: bytes, task_id: str) -> None:
        now = self._now
        now.running.add(task_id)
        before, now.again = now.again, [raw]
        end = None
        try:
            while now.again:
                end = self._attempt(now.again.pop(0), task_id)
        finally:
            now.running.discard(task_id)
            now.again = before
        if self.propagates and end is not None and end.state == "FAILURE" and end.error is not None:
            raise end.error

    def _attempt(self, raw: bytes, task_id: str) -> End | None:
        results = Results(self.app)
        results.enabled = True
        port: Any = _Frame(raw, space=self._space)
        executor = _Executor(self.app, port=port, node=NODE, letters=Letters((), node=NODE), results=results)
        executor.eager, executor.slots = self, _EverySlot(self.app, worker=b"")
        executor.run(port)
        if executor.end is not None:
            self.ran.append(Ran(read_header(raw).task or "", task_id, executor.end))
        return executor.end


class _Now(threading.local):
    """What one thread is running."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.again: list[bytes] = []


class _Store(Store):
    """The results of a keyspace. Nothing runs while somebody waits: what has not ended is late."""

    def __init__(self, space: Keyspace, *, prefix: str) -> None:
        self._space, self._prefix, self._stored = space, prefix, True

    def cancel(self, task_ids: Sequence[str], *, terminate: bool) -> None:
        """Nothing: whatever was sent has run."""

    def run(self, commands: bytes, count: int) -> list[Any]:
        return run(self._space, commands, count)

    def wait(self, task_id: str, timeout_s: float | None) -> Outcome:
        found = self.read(task_id)
        if not found.final:
            raise late(task_id, timeout_s)
        return found

    def close(self) -> None:
        """There is nothing to close."""


class _AsyncStore(AsyncStore):
    """The same, awaited."""

    def __init__(self, store: _Store) -> None:
        self._store, self._prefix = store, store._prefix

    async def cancel(self, task_ids: Sequence[str], *, terminate: bool) -> None:
        """Nothing: whatever was sent has run."""

    async def _ask(self, *command: str) -> Any:
        return self._store._ask(*command)

    async def wait(self, task_id: str, timeout_s: float | None) -> Outcome:
        return self._store.wait(task_id, timeout_s)

    async def close(self) -> None:
        """There is nothing to close."""


class _EagerProducer(Producer):
    """Hands what it sends to be run, and asks there for results."""

    def __init__(self, eager: Eager) -> None:
        super().__init__(eager.app.conf.broker_url, **composing(eager.app))
        self._eager = eager

    def _push(self, composed: Push) -> None:
        self._eager.take(composed)

    def _push_once(self, composed: Push, lock: Lock) -> tuple[str, bool]:
        self._eager.take(composed)
        return composed.ids[0], False

    def push(self, composed: Sequence[Push]) -> None:
        """Run all of them, in their order."""
        for one in composed:
            self._eager.take(one)

    @property
    def stores_results_there(self) -> bool:
        """No: what a script would push would not be run."""
        return False

    @property
    def _store(self) -> Store:
        return self._eager.store


class _EagerAsyncProducer(AsyncProducer):
    """For a program with an event loop, which goes on meanwhile: tasks run in a thread."""

    def __init__(self, eager: Eager) -> None:
        super().__init__(eager.app.conf.broker_url, **composing(eager.app))
        self._eager = eager
        self._answers = _AsyncStore(eager.store)

    async def _push(self, composed: Push) -> None:
        await asyncio.to_thread(self._eager.take, composed)

    async def _push_once(self, composed: Push, lock: Lock) -> tuple[str, bool]:
        await self._push(composed)
        return composed.ids[0], False

    @property
    def _store(self) -> AsyncStore:
        return self._answers


def composing(app: FastQ) -> Any:
    """The settings that say how messages are written: those that need no Redis."""
    given = app._producer_options()
    return {name: given[name] for name in ("queue", "priority", "wire", "transport_options", "use_ssl")}


def to_its_end(call: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """Runs a coroutine in an event loop of its own; beside the loop of this thread, if there is one."""

    def run(*args: Any, **kwargs: Any) -> Any:
        token = context.running.set(context.current())  # for a loop in another thread as well
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(call(*args, **kwargs))
        else:
            return _beside(lambda: asyncio.run(call(*args, **kwargs)))
        finally:
            context.running.reset(token)

    return run


def _beside(function: Callable[[], Any]) -> Any:
    """What a function returns or raises in another thread."""
    found: list[Any] = []

    def work() -> None:
        try:
            found.append((function(), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
    thread.start()
    thread.join()
    ((value, error),) = found
    if error is not None:
        raise error
    return value


__all__ = ["Eager", "Ran"]
