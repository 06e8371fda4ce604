"""The handle of a group: those of its members, waited for together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fastq import clock

if TYPE_CHECKING:
    from fastq.producer.handle import Handle
    from fastq.producer.outcome import Outcome

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
        tasks = list(self.tasks())
        return tasks[0]._store.read_many([task.id for task in tasks]) if tasks else []

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
        """Tell whether any has ended otherwise than by returning."""
        return any(outcome.final and not outcome.successful for outcome in self.outcomes())

    def completed_count(self) -> int:
        """How many have returned."""
        return sum(outcome.successful for outcome in self.outcomes())

    def wait(self, timeout_s: float | None = None) -> list[Outcome]:
        """Wait until all have ended, in whatever way. Raises TimeoutError if it takes longer."""
        until = None if timeout_s is None else clock.monotonic() + timeout_s
        tasks, found = list(self.tasks()), self.outcomes()
        for place, task in enumerate(tasks):
            if not found[place].final:
                left_s = None if until is None else max(0.0, until - clock.monotonic())
                found[place] = task.wait(left_s)
                # While this one was waited for, others have ended: a look at some more costs as much as at the next.
                some = tasks[place + 1 : place + 501]
                found[place + 1 : place + 501] = task._store.read_many([one.id for one in some])
        return found

    def get(self, timeout_s: float | None = None) -> list[T]:
        """Wait for all results and return them in order; lists for groups in it.

        Raises TaskFailed or TaskRevoked for the first that did not return, and TimeoutError if it takes longer.
        """
        outcomes = iter(self.wait(timeout_s))
        return self._values(outcomes)

    def join(self, timeout_s: float | None = None) -> list[T]:
        """The same as `get`."""
        return self.get(timeout_s)

    def _values(self, outcomes: Iterator[Outcome]) -> list[Any]:
        return [
            child._values(outcomes) if isinstance(child, GroupHandle) else child._decode(next(outcomes).value(child.id))
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
