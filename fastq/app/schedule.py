"""The schedule of a native application: entries by name, from `app.every`, `app.cron` and Celery's `beat_schedule`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, overload

import msgspec

from fastq.errors import ScheduleError
from fastq.schedules import Cron, Every, Missed, Schedule, cron, crontab, every, most_of, zone_name

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastq.app.settings import Settings
    from fastq.app.task import BaseTask
    from fastq.producer.options import SendOptions

    AnyTask: TypeAlias = BaseTask[Any, Any] | str

#: A task that a decorator returns as it was.
T = TypeVar("T")

#: What an entry of `beat_schedule` may say. `relative` of Celery has no meaning here: intervals are counted from 1970.
_KEYS: Final = frozenset(("task", "schedule", "args", "kwargs", "options", "missed", "relative"))


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the schedule."""

    #: Unique in the application, and the same as long as it is the same entry: what was sent is remembered under it.
    name: str
    #: The task's name.
    task: str
    schedule: Schedule
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = msgspec.field(default_factory=dict)
    #: Of `apply_async`.
    options: Mapping[str, Any] = msgspec.field(default_factory=dict)
    #: What becomes of due times at which nobody was there.
    missed: Missed = "once"


class Timetable:
    """All entries of an application."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __repr__(self) -> str:
        return f"<Timetable {sorted(self._entries)}>"

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def add(self, entry: Entry) -> Entry:
        """Add an entry. Raises ScheduleError if its name is taken, its policy unknown or its id given."""
        if entry.name in self._entries:
            raise ScheduleError(f"there are two entries {entry.name!r} in the schedule; give one of them a name=")
        most_of(entry.missed)
        if "task_id" in entry.options:
            raise ScheduleError(f"entry {entry.name!r}: task_id is made of the entry's name and its due time")
        self._entries[entry.name] = entry
        return entry

    def with_settings(self, beat_schedule: Mapping[str, Mapping[str, Any]] | None, *, zone: str) -> dict[str, Entry]:
        """All entries by name, together with those of Celery's setting; cron lines without a zone are in `zone`."""
        both = Timetable()
        for entry in [*self, *(read_entry(name, given) for name, given in (beat_schedule or {}).items())]:
            schedule = entry.schedule
            zoned = schedule.in_zone(zone) if isinstance(schedule, Cron) else schedule
            both.add(_checked(msgspec.structs.replace(entry, schedule=zoned)))
        return both._entries


def _checked(entry: Entry) -> Entry:
    from fastq.producer.options import SendOptions  # not before a worker, or somebody who looks, wants to know

    known = SendOptions.__annotations__
    if unknown := sorted(set(entry.options) - set(known)):
        raise ScheduleError(f"entry {entry.name!r}: there is no option {unknown[0]!r}; there are {', '.join(known)}")
    return entry


class Scheduling:
    """What an application says of its schedule: the part of `FastQ` that makes entries."""

    conf: Settings
    timetable: Timetable

    @overload
    def every(
        self,
        interval: float | timedelta,
        task: AnyTask,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        offset: float | timedelta = 0,
        missed: Missed = "once",
        **options: Unpack[SendOptions],
    ) -> Entry: ...
    @overload
    def every(
        self,
        interval: float | timedelta,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        offset: float | timedelta = 0,
        missed: Missed = "once",
        **options: Unpack[SendOptions],
    ) -> Callable[[T], T]: ...
    def every(
        self,
        interval: float | timedelta,
        task: Any = None,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        offset: float | timedelta = 0,
        missed: Missed = "once",
        **options: Unpack[SendOptions],
    ) -> Any:
        """Have a task sent every so many seconds, counted from 1970 (UTC) plus `offset`; above a task, or given one.

        `name` (of the task, if not given) is unique; `missed` is what becomes of due times at which no worker was
        there: "skip", "once", "all" or a number; `options` are those of `apply_async`. Raises ScheduleError.
        """
        facts = {"args": args, "kwargs": kwargs or {}, "options": options, "missed": missed}
        return self._entry(every(interval, offset=offset), task, name, facts)

    @overload
    def cron(
        self,
        when: str | Cron,
        task: AnyTask,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        tz: str | tzinfo | None = None,
        missed: Missed = "once",
        **options: Unpack[SendOptions],
    ) -> Entry: ...
    @overload
    def cron(
        self,
        when: str | Cron,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        tz: str | tzinfo | None = None,
        missed: Missed = "once",
        **options: Unpack[SendOptions],
    ) -> Callable[[T], T]: ...
    def cron(
        self,
        when: str | Cron,
        task: Any = None,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        tz: str | tzinfo | None = None,
        missed: Missed = "once",
        **options: Unpack[SendOptions],
    ) -> Any:
        """Have a task sent when a cron line, or a `crontab(...)`, says so; above a task, or given one.

        `tz` is a zone, by default the setting `timezone`; the other arguments are those of `every`. Raises
        ScheduleError.
        """
        schedule = cron(when, tz=tz) if isinstance(when, str) else when.in_zone(zone_name(tz))
        facts = {"args": args, "kwargs": kwargs or {}, "options": options, "missed": missed}
        return self._entry(schedule, task, name, facts)

    def _entry(self, schedule: Schedule, task: Any, name: str | None, facts: Mapping[str, Any]) -> Any:
        def add(given: Any) -> Any:
            target = task_name(given)
            return self.timetable.add(Entry(name=name or target, task=target, schedule=schedule, **facts))

        def decorate(decorated: Any) -> Any:
            add(decorated)
            return decorated

        return decorate if task is None else add(task)

    def entries(self) -> dict[str, Entry]:
        """The whole schedule by name, with the entries of `beat_schedule`. Raises ScheduleError."""
        return self.timetable.with_settings(self.conf.beat_schedule, zone=self.conf.timezone)


def read_entry(name: str, given: Mapping[str, Any]) -> Entry:
    """An entry of Celery's `beat_schedule`. Raises ScheduleError."""
    if not {"task", "schedule"} <= set(given):
        raise ScheduleError(f"beat_schedule[{name!r}] is {given!r:.200}; it needs at least a task and a schedule")
    unknown = set(given) - _KEYS
    if unknown:
        raise ScheduleError(f"beat_schedule[{name!r}] has {sorted(unknown)}; known are {sorted(_KEYS)}")
    return Entry(
        name=name,
        task=task_name(given["task"]),
        schedule=read_schedule(name, given["schedule"]),
        args=tuple(given.get("args") or ()),
        kwargs=dict(given.get("kwargs") or {}),
        options=dict(given.get("options") or {}),
        missed=given.get("missed", "once"),
    )


def read_schedule(name: str, given: object) -> Schedule:
    """Seconds, a timedelta, one of our schedules, or one of Celery's objects. Raises ScheduleError."""
    if isinstance(given, (Every, Cron)):
        return given
    if isinstance(given, (int, float, timedelta)):
        return every(given)
    # Celery's objects, known by what they have, for Celery need not be installed.
    if hasattr(given, "_orig_minute"):
        return _from_crontab(given)
    if isinstance(interval := getattr(given, "run_every", None), timedelta):
        return every(interval)
    raise ScheduleError(
        f"entry {name!r}: the schedule {given!r:.200} is no number of seconds, no timedelta and no crontab"
    )


def task_name(task: Any) -> str:
    """The name of a task, given as name or as task."""
    name = task if isinstance(task, str) else getattr(task, "name", None)
    if not isinstance(name, str) or not name:
        raise ScheduleError(f"{task!r:.200} is no task; give its name or the task itself")
    return name


def _from_crontab(given: Any) -> Cron:
    return crontab(
        minute=given._orig_minute,
        hour=given._orig_hour,
        day_of_week=given._orig_day_of_week,
        day_of_month=given._orig_day_of_month,
        month_of_year=given._orig_month_of_year,
    )
