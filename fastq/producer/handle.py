"""The handle of a task that was sent: its id, and its result once there is one, read where Celery keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from fastq.producer.outcome import Outcome, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastq.errors import TaskFailed, TaskRevoked
    from fastq.producer.async_store import AsyncStore
    from fastq.producer.store import Store

#: What a task returns.
T = TypeVar("T")


def as_stored(value: Any) -> Any:
    """Return a result as it was read: what a handle does with it if it was not told its type."""
    return value


class Handle(Generic[T]):
    """A task that was sent: its id, and its result once there is one. Threads may share it.

    `parent` is the Handle or GroupHandle of what comes before it in a workflow, or None. `existed` is true if nothing
    was sent, because the task is unique and this one waits or runs already. `ignored` is true if it was sent with the
    word that its result is not stored (`ignore_result`); a handle that is made of an id does not know that, and waits.

    Everything but these asks the result store and blocks for that. Raises ResultsUnavailable
    when it cannot be asked.
    """

    __slots__ = ("_decode", "_store", "existed", "id", "ignored", "parent")

    def __init__(
        self, task_id: str, *, store: Store, decode: Callable[[Any], T] = as_stored, ignored: bool = False
    ) -> None:
        self.id: str = task_id
        self.parent: Any = None
        self.existed: bool = False
        self.ignored: bool = ignored
        self._store = store
        self._decode = decode

    def __repr__(self) -> str:
        return f"<Handle {self.id}>"

    @property
    def key(self) -> str:
        """The key of the result, which is the name of the channel as well."""
        return self._store.key(self.id)

    @property
    def status(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED, or a state of the application's own."""
        return self.outcome().status

    def outcome(self) -> Outcome:
        """Look at the result without waiting for the task."""
        return self._store.read(self.id)

    def progress(self) -> Progress:
        """Look at how far the task is, as it says itself."""
        return self.outcome().progress

    def ready(self) -> bool:
        """Tell whether the task has ended, in whatever way."""
        return self.outcome().final

    def successful(self) -> bool:
        """Tell whether the task has returned."""
        return self.outcome().successful

    def failed(self) -> bool:
        """Tell whether the task has raised; one that was revoked has not."""
        return self.outcome().failed

    @property
    def state(self) -> str:
        """`status`, which has both names in Celery."""
        return self.status

    @property
    def result(self) -> T | TaskFailed | TaskRevoked | None:
        """What the task has returned, the error if it has raised or was revoked, None before; without waiting."""
        outcome = self.outcome()
        found: T | TaskFailed | TaskRevoked | None = None
        if outcome.final:
            found = value_of(self, outcome, propagate=False)
        return found

    @property
    def traceback(self) -> str | None:
        """Where the task has raised, as text."""
        return self.outcome().traceback

    def wait(self, timeout: float | None = None) -> Outcome:
        """Wait until the task has ended, in whatever way, and return how. Raises TimeoutError after `timeout` seconds.

        Nobody could tell of a result that is `ignored`: PENDING, at once.
        """
        return Outcome() if self.ignored else self._store.wait(self.id, timeout)

    @overload
    def get(self, timeout: float | None = None, *, propagate: Literal[True] = True) -> T: ...
    @overload
    def get(self, timeout: float | None = None, *, propagate: bool) -> T | TaskFailed | TaskRevoked: ...
    def get(self, timeout: float | None = None, *, propagate: bool = True) -> T | TaskFailed | TaskRevoked:
        """Wait for the result, for `timeout` seconds at most, and return it, converted if the task's type is known.

        Raises TaskFailed if the task raised and TaskRevoked if it was revoked, or returns that error with
        `propagate=False`. Raises TimeoutError if it takes longer. Returns None at once if the result is `ignored`.
        """
        return value_of(self, self.wait(timeout), propagate=propagate)

    def cancel(self, *, terminate: bool = False) -> None:
        """Have the task not started: wherever its message is, the worker that meets it stores REVOKED instead.

        It holds over restarts of workers, for seven days. With `terminate` the task is ended if it runs already: its
        process by SIGTERM, a coroutine by CancelledError. Returns when the broker has it. Raises BrokerError.
        """
        self._store.cancel([self.id], terminate=terminate)

    def revoke(self, *, terminate: bool = False) -> None:
        """`cancel`, by its name in Celery."""
        self.cancel(terminate=terminate)

    def forget(self) -> None:
        """Delete the result. What comes later is stored nevertheless."""
        self._store.forget(self.id)


class AsyncHandle(Generic[T]):
    """The same for a program with an event loop."""

    __slots__ = ("_decode", "_store", "existed", "id", "ignored")

    def __init__(
        self, task_id: str, *, store: AsyncStore, decode: Callable[[Any], T] = as_stored, ignored: bool = False
    ) -> None:
        self.id: str = task_id
        self.existed: bool = False
        self.ignored: bool = ignored
        self._store = store
        self._decode = decode

    def __repr__(self) -> str:
        return f"<AsyncHandle {self.id}>"

    @property
    def key(self) -> str:
        """The key of the result, which is the name of the channel as well."""
        return self._store.key(self.id)

    async def status(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED, or a state of the application's own."""
        return (await self.outcome()).status

    async def outcome(self) -> Outcome:
        """Look at the result without waiting for the task."""
        return await self._store.read(self.id)

    async def progress(self) -> Progress:
        """Look at how far the task is, as it says itself."""
        return (await self.outcome()).progress

    async def ready(self) -> bool:
        """Tell whether the task has ended, in whatever way."""
        return (await self.outcome()).final

    async def successful(self) -> bool:
        """Tell whether the task has returned."""
        return (await self.outcome()).successful

    async def failed(self) -> bool:
        """Tell whether the task has raised; one that was revoked has not."""
        return (await self.outcome()).failed

    async def wait(self, timeout: float | None = None) -> Outcome:
        """Wait until the task has ended, in whatever way, and return how. Raises TimeoutError after `timeout` seconds.

        Nobody could tell of a result that is `ignored`: PENDING, at once.
        """
        return Outcome() if self.ignored else await self._store.wait(self.id, timeout)

    @overload
    async def get(self, timeout: float | None = None, *, propagate: Literal[True] = True) -> T: ...
    @overload
    async def get(self, timeout: float | None = None, *, propagate: bool) -> T | TaskFailed | TaskRevoked: ...
    async def get(self, timeout: float | None = None, *, propagate: bool = True) -> T | TaskFailed | TaskRevoked:
        """Wait for the result, for `timeout` seconds at most, and return it, converted if the task's type is known.

        Raises TaskFailed if the task raised and TaskRevoked if it was revoked, or returns that error with
        `propagate=False`. Raises TimeoutError if it takes longer. Returns None at once if the result is `ignored`.
        """
        return value_of(self, await self.wait(timeout), propagate=propagate)

    async def cancel(self, *, terminate: bool = False) -> None:
        """Have the task not started: wherever its message is, the worker that meets it stores REVOKED instead.

        It holds over restarts of workers, for seven days. With `terminate` the task is ended if it runs already: its
        process by SIGTERM, a coroutine by CancelledError. Returns when the broker has it. Raises BrokerError.
        """
        await self._store.cancel([self.id], terminate=terminate)

    async def revoke(self, *, terminate: bool = False) -> None:
        """`cancel`, by its name in Celery."""
        await self.cancel(terminate=terminate)

    async def forget(self) -> None:
        """Delete the result. What comes later is stored nevertheless."""
        await self._store.forget(self.id)


def value_of(handle: Handle[T] | AsyncHandle[T], outcome: Outcome, *, propagate: bool) -> T | TaskFailed | TaskRevoked:
    """What `get` makes of an outcome. Raises TaskFailed or TaskRevoked, or returns them unless `propagate`."""
    if handle.ignored:
        return None  # type: ignore[return-value]
    if propagate or outcome.successful:
        return handle._decode(outcome.value(handle.id))
    return outcome.error(handle.id)
