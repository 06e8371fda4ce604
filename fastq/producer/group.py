"""The handle of a group: those of its members, waited for together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from fastq import clock
from fastq.producer.handle import value_of
from fastq.producer.outcome import Outcome

if TYPE_CHECKING:
    from fastq.errors import TaskFailed, TaskRevoked
    from fastq.producer.handle import Handle

T = TypeVar("T")


class GroupHandle(Generic[T]):
    """A group that was sent: `children` are the handles of its members, groups among them; `parent` what came before.

    Everything but `id` and `children` asks the result store and blocks for that. Raises ResultsUnavailable when it
    cannot be asked.
    """

    __slots__ = ("children", "id", "parent")

    def __init__(self, group_id: str, children: Sequence[Any], *, parent: Any = None) -> None:
        self.id: str = group_id
        self.children: list[Any] = list(children)
        self.parent: Any = parent

    def __repr__(self) -> str:
        return f"<GroupHandle {self.id} of {len(self.children)}>"

    def __len__(self) -> int:
        return len(self.children)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.children)

    def __getitem__(self, place: int) -> Any:
        return self.children[place]

    def outcomes(self) -> list[Outcome]:
        """Look at all results without waiting, those of groups in it one after the other. One question per 500."""
        return _look(list(self.tasks()))

    def tasks(self) -> Iterator[Handle[Any]]:
        """The handles of all tasks, those of groups in it among them."""
        for child in self.children:
            if isinstance(child, GroupHandle):
                yield from child.tasks()
            else:
                yield child

    def ready(self) -> bool:
        """Tell whether all have ended, in whatever way."""
        return all(outcome.final for outcome in self.outcomes())

    def successful(self) -> bool:
        """Tell whether all have returned."""
        return all(outcome.successful for outcome in self.outcomes())

    def failed(self) -> bool:
        """Tell whether any has raised; one that was revoked has not."""
        return any(outcome.failed for outcome in self.outcomes())

    def completed_count(self) -> int:
        """How many have returned."""
        return sum(outcome.successful for outcome in self.outcomes())

    def wait(self, timeout: float | None = None) -> list[Outcome]:
        """Wait until all have ended, in whatever way. Raises TimeoutError after `timeout` seconds.

        Those whose results are `ignored` are not waited for: they are PENDING.
        """
        tasks = list(self.tasks())
        found = iter(self._ended([task for task in tasks if not task.ignored], timeout))
        return [Outcome() if task.ignored else next(found) for task in tasks]

    def _ended(self, tasks: list[Handle[Any]], timeout_s: float | None) -> list[Outcome]:
        until = None if timeout_s is None else clock.monotonic() + timeout_s
        found = _look(tasks)
        for place, task in enumerate(tasks):
            if not found[place].final:
                left_s = None if until is None else max(0.0, until - clock.monotonic())
                found[place] = task.wait(left_s)
                # While this one was waited for, others have ended: a look at some more costs as much as at the next.
                some = tasks[place + 1 : place + 501]
                found[place + 1 : place + 501] = task._store.read_many([one.id for one in some])
        return found

    @overload
    def get(self, timeout: float | None = None, *, propagate: Literal[True] = True) -> list[T]: ...
    @overload
    def get(self, timeout: float | None = None, *, propagate: bool) -> list[T | TaskFailed | TaskRevoked]: ...
    def get(
        self, timeout: float | None = None, *, propagate: bool = True
    ) -> list[T] | list[T | TaskFailed | TaskRevoked]:
        """Wait for all results, for `timeout` seconds at most, and return them in order; lists for groups in it.

        Raises TaskFailed or TaskRevoked for the first that did not return; with `propagate=False` such errors are in
        the list. Raises TimeoutError if it takes longer. Where a result is `ignored` there is None.
        """
        return self._values(iter(self.wait(timeout)), propagate=propagate)

    @overload
    def join(self, timeout: float | None = None, *, propagate: Literal[True] = True) -> list[T]: ...
    @overload
    def join(self, timeout: float | None = None, *, propagate: bool) -> list[T | TaskFailed | TaskRevoked]: ...
    def join(
        self, timeout: float | None = None, *, propagate: bool = True
    ) -> list[T] | list[T | TaskFailed | TaskRevoked]:
        """The same as `get`."""
        return self.get(timeout, propagate=propagate)

    def _values(self, outcomes: Iterator[Outcome], *, propagate: bool) -> list[Any]:
        return [
            child._values(outcomes, propagate=propagate)
            if isinstance(child, GroupHandle)
            else value_of(child, next(outcomes), propagate=propagate)
            for child in self.children
        ]

    def cancel(self, *, terminate: bool = False) -> None:
        """Cancel all tasks, as `Handle.cancel` does with one. Raises BrokerError."""
        tasks = list(self.tasks())
        if tasks:
            tasks[0]._store.cancel([task.id for task in tasks], terminate=terminate)

    def forget(self) -> None:
        """Delete all results. What comes later is stored nevertheless."""
        for task in self.tasks():
            task.forget()


def _look(tasks: Sequence[Handle[Any]]) -> list[Outcome]:
    return tasks[0]._store.read_many([task.id for task in tasks]) if tasks else []
