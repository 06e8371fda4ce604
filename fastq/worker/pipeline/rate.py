"""Hold tasks to their rate limits (`Task.rate_limit`): a bucket of one token for each task and worker, as Celery's.

A message takes its turn when it is admitted: the bucket says when that is, and turns follow each other in the order in
which messages came. Until then it waits like one with an ETA, and counts as held, so that a worker does not collect
messages that others could run.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence

from fastq.errors import SettingError
from fastq.program import TaskInfo

_RATE = re.compile(r"(?P<count>\d+(\.\d+)?)(/(?P<unit>[smh]))?")
_SECONDS = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def interval_s(rate: str | float | None) -> float:
    """Seconds between two starts: "10/m" is 6.0; 0.0 for no limit. Raises SettingError for what is no rate."""
    if rate is None or rate == "" or rate == 0:
        return 0.0
    found = _RATE.fullmatch(str(rate).strip())
    if found is None:
        raise SettingError(f"rate_limit {rate!r} is no rate; write 10, 10/s, 100/m or 1000/h")
    count = float(found["count"])
    return _SECONDS[found["unit"]] / count if count else 0.0


def ledger_tables(
    tasks: Sequence[TaskInfo], *, limited: Container[int]
) -> tuple[list[bytes], list[bool], list[tuple[float, float]]]:
    """What the ledger knows of the tasks, by number: name, late acknowledgement, (soft, hard) limits in seconds.

    Limited tasks have no names there, so each of their messages is looked at.
    """
    names = [b"" if task.gone or number in limited else task.name.encode() for number, task in enumerate(tasks)]
    limits = [(task.soft_time_limit or 0.0, task.time_limit or 0.0) for task in tasks]
    return names, [task.acks_late for task in tasks], limits


class Buckets:
    """The buckets of all limited tasks, by task number."""

    def __init__(self, intervals_s: Mapping[int, float]) -> None:
        self._intervals_s = dict(intervals_s)
        self._next_at: dict[int, float] = {}
        #: Entries that wait for their turn, and the task of each.
        self._waiting: dict[int, int] = {}

    def __len__(self) -> int:
        """How many messages wait for their turn."""
        return len(self._waiting)

    def __contains__(self, task: object) -> bool:
        """Whether a task has a limit."""
        return task in self._intervals_s

    def limit(self, task: int, interval_s: float) -> set[int]:
        """Another limit for a task, 0 for none. Returns the entries that wait for their turn by the old one; each
        takes its turn again when it comes back."""
        self._next_at.pop(task, None)
        self._intervals_s.pop(task, None)
        if interval_s:
            self._intervals_s[task] = interval_s
        released = {entry for entry, of in self._waiting.items() if of == task}
        for entry in released:
            del self._waiting[entry]
        return released

    def holds(self, entry: int) -> bool:
        """Whether this message waits for its turn."""
        return entry in self._waiting

    def adopt(self, intervals_s: Mapping[int, float]) -> set[int]:
        """The limits of all tasks from now on. Returns the entries that wait for their turn by one that has changed."""
        changed = {
            task
            for task in {*self._intervals_s, *intervals_s}
            if intervals_s.get(task, 0.0) != self._intervals_s.get(task, 0.0)
        }
        return {entry for task in changed for entry in self.limit(task, intervals_s.get(task, 0.0))}

    def turn(self, entry: int, *, task: int | None, now: float) -> float | None:
        """When this message may start, None for now. One that comes back from waiting has had its turn."""
        if entry in self._waiting:
            del self._waiting[entry]
            return None
        if task is None or task not in self._intervals_s:
            return None
        at = max(now, self._next_at.get(task, 0.0))
        self._next_at[task] = at + self._intervals_s[task]
        if at <= now:
            return None
        self._waiting[entry] = task
        return at

    def forget(self, entry: int) -> None:
        """This message waits no more: it was returned to its queue, or is not to be run."""
        self._waiting.pop(entry, None)
