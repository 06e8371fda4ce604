"""When a schedule is due: intervals and cron lines, as pure functions of time.

All times are milliseconds since 1970. Due times follow from the schedule alone, not from when a process was started:
intervals are counted from 1970, so that a restart, another leader or another host comes to the same ones. What cron
lines mean, summer time included, is cronsim's business, which does as Debian's cron does:

- a line for fixed hours and minutes: a time that does not exist is replaced by the first one after it, one that exists
  twice is used the first time;
- a line whose minutes or hours begin with a star: skipped hours are skipped, repeated ones repeated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from fastq.errors import ScheduleError

if TYPE_CHECKING:
    from cronsim import CronSim

#: What becomes of due times that passed while nobody was there: see `pending`. A number: so many of them at most.
Missed: TypeAlias = Literal["skip", "once", "all"] | int

#: What "all" means. A bound, because a schedule of every second is missed 86,400 times a day.
MOST_MISSED: Final = 1000

#: Milliseconds that a due time may be late and is not missed: longer than another leader needs to take over.
GRACE_MS: Final = 30_000

#: Milliseconds of the shortest interval: shorter ones are a loop's business, not a scheduler's.
SHORTEST_MS: Final = 100

_HOUR_MS: Final = 3_600_000

#: What crontab(5) calls by a word. @reboot is missing: there is no such moment in a cluster of workers.
_NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

#: An instant for checking cron lines: any will do.
_ANY_TIME: Final = datetime(2024, 1, 1, tzinfo=timezone.utc)


class Every(msgspec.Struct, frozen=True, kw_only=True):
    """An interval: due whenever the time since 1970 (UTC), less the offset, is a multiple of it."""

    interval_ms: int
    offset_ms: int = 0

    @property
    def spec(self) -> str:
        """The schedule as text. Another text is another schedule."""
        offset = f" + {self.offset_ms / 1000:g}" if self.offset_ms else ""
        return f"every {self.interval_ms / 1000:g} s{offset}"

    def after(self, moment_ms: int) -> int:
        """The first due time after a moment."""
        passed = (moment_ms - self.offset_ms) // self.interval_ms
        return (passed + 1) * self.interval_ms + self.offset_ms

    def last_few(self, *, after_ms: int, until_ms: int, most: int) -> list[int]:
        """The last due times behind the first moment and up to the second, oldest first."""
        newest = self.after(until_ms) - self.interval_ms
        few = min(most, max(0, -((after_ms - newest) // self.interval_ms)))
        return [newest - back * self.interval_ms for back in reversed(range(few))]


class Cron(msgspec.Struct, frozen=True, kw_only=True):
    """A cron line of five fields in a time zone."""

    line: str
    #: Name of the zone; "" until the application has said which is its own.
    zone: str = ""
    #: Whether day of month and day of week must both match, as Celery's crontab has it. crontab(5): one of them, unless
    #: one begins with a star.
    both_days: bool = False

    @property
    def spec(self) -> str:
        """The schedule as text. Another text is another schedule."""
        days = " (both days)" if self.both_days else ""
        return f"cron {self.line}{days} {self.zone or 'UTC'}"

    def in_zone(self, zone: str) -> Cron:
        """The same in this zone, unless it has one of its own. Raises ScheduleError for an unknown one."""
        return self if self.zone else msgspec.structs.replace(self, zone=zone_name(zone))

    def after(self, moment_ms: int) -> int | None:
        """The first due time after a moment; None if there is none within 50 years."""
        return next(self._times(moment_ms), None)

    def last_few(self, *, after_ms: int, until_ms: int, most: int) -> list[int]:
        """The last due times behind the first moment and up to the second, oldest first."""
        # cronsim walks backwards, too, but not over the same times where clocks are changed.
        window_ms = _HOUR_MS
        while True:
            start_ms = max(after_ms, until_ms - window_ms)
            found = list(self._between(start_ms, until_ms))
            if len(found) >= most or start_ms == after_ms:
                return found[-most:] if most else []
            window_ms *= 2

    def _between(self, after_ms: int, until_ms: int) -> Iterator[int]:
        for found_ms in self._times(after_ms):
            if found_ms > until_ms:
                return
            yield found_ms

    def _times(self, after_ms: int) -> Iterator[int]:
        start = datetime.fromtimestamp(after_ms / 1000, _zone(self.zone or "UTC"))
        for moment in _simulate(self.line, start, both_days=self.both_days):
            found_ms = int(moment.timestamp()) * 1000
            # An hour that comes twice has, for fixed times, only its first run: it may be behind us.
            if found_ms > after_ms:
                yield found_ms


Schedule: TypeAlias = Every | Cron


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done about an entry now."""

    #: Due times to send for, oldest first.
    send: list[int]
    #: The newest due time: with it, or with the last of `send`, everything before is done.
    newest_ms: int
    #: Whether there were more than are sent.
    left_out: bool


def pending(schedule: Schedule, *, last_ms: int, now_ms: int, missed: Missed) -> Pending | None:
    """What is due, given the due time that was done last; None if nothing is.

    skip   the newest due time, unless it is later than 30 s by now
    once   the newest due time, however late: as Celery's beat
    all    every due time, but not more than the newest 1,000; a number N: not more than the newest N
    """
    most = most_of(missed)
    found = schedule.last_few(after_ms=last_ms, until_ms=now_ms, most=max(1, most))
    if not found:
        return None
    late_ms = now_ms - found[-1]
    send = found if most or late_ms <= GRACE_MS else []
    return Pending(send=send, newest_ms=found[-1], left_out=not send or schedule.after(last_ms) != send[0])


def most_of(missed: Missed) -> int:
    """How many missed due times are sent at most. Raises ScheduleError."""
    if isinstance(missed, int) and not isinstance(missed, bool) and 0 <= missed <= MOST_MISSED:
        return missed
    known = {"skip": 0, "once": 1, "all": MOST_MISSED}
    if isinstance(missed, str) and missed in known:
        return known[missed]
    raise ScheduleError(f"missed={missed!r}: it is 'skip', 'once', 'all' or a number up to {MOST_MISSED}")


# ---------------------------------------------------------------------------- making them


def every(interval: float | timedelta, *, offset: float | timedelta = 0) -> Every:
    """An interval in seconds, counted from 1970 (UTC) plus `offset`. Raises ScheduleError below 0.1 s."""
    interval_ms = _milliseconds(interval, name="interval")
    if interval_ms < SHORTEST_MS:
        raise ScheduleError(f"an interval of {interval!r} is too short: at least {SHORTEST_MS / 1000:g} seconds")
    return Every(interval_ms=interval_ms, offset_ms=_milliseconds(offset, name="offset") % interval_ms)


def cron(line: str, *, tz: str | tzinfo | None = None) -> Cron:
    """A cron line: minute, hour, day of month, month, day of week, or @daily and the like. Raises ScheduleError."""
    text = " ".join(str(line).split())
    fields = _NICKNAMES.get(text.lower(), text)
    if len(fields.split()) != 5:
        words = ", ".join(_NICKNAMES)
        raise ScheduleError(f"cron {line!r} has not five fields, and is none of {words}")
    return _checked(Cron(line=fields.upper(), zone=zone_name(tz)), given=repr(line))


CronField: TypeAlias = int | str | Iterable[int | str]


def crontab(
    minute: CronField = "*",
    hour: CronField = "*",
    day_of_week: CronField = "*",
    day_of_month: CronField = "*",
    month_of_year: CronField = "*",
    *,
    tz: str | tzinfo | None = None,
) -> Cron:
    """Celery's `crontab`: numbers, lists or cron text for each field; ranges may wrap, and both days have to match."""
    given = {
        "minute": minute,
        "hour": hour,
        "day_of_month": day_of_month,
        "month_of_year": month_of_year,
        "day_of_week": day_of_week,
    }
    line = " ".join(_field(name, value) for name, value in given.items())
    shown = ", ".join(f"{name}={value!r}" for name, value in given.items() if value != "*")
    return _checked(Cron(line=line, zone=zone_name(tz), both_days=True), given=f"crontab({shown})")


def zone_name(zone: str | tzinfo | None) -> str:
    """The name of a zone; "" for None. Raises ScheduleError for one that is not known here."""
    if zone is None or zone == "":
        return ""
    # A ZoneInfo has a key; datetime.timezone.utc is called UTC.
    name = zone if isinstance(zone, str) else str(getattr(zone, "key", None) or zone)
    _zone(name)
    return name


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    if name.upper() == "UTC":
        return timezone.utc  # cronsim is faster with it than with a ZoneInfo of the same meaning
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(
            f"there is no time zone {name!r} here; check the name, or install the package tzdata"
        ) from error


def _simulate(line: str, start: datetime, *, both_days: bool) -> CronSim:
    from cronsim import CronSim

    found = CronSim(line, start)
    found.day_and = found.day_and or both_days
    return found


def _checked(made: Cron, *, given: str) -> Cron:
    from cronsim import CronSimError

    try:
        never = next(_simulate(made.line, _ANY_TIME, both_days=made.both_days), None) is None
    except CronSimError as error:
        raise ScheduleError(f"{given} is no cron line: {str(error).lower()}") from error
    if never:
        raise ScheduleError(f"{given} is never due")
    return made


def _milliseconds(value: float | timedelta, *, name: str) -> int:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ScheduleError(f"{name}={value!r}: it is a number of seconds or a timedelta")
    if not math.isfinite(seconds):
        raise ScheduleError(f"{name}={value!r}: it is a number of seconds or a timedelta")
    return round(seconds * 1000)


# ---------------------------------------------------------------------------- Celery's fields

_MONTHS: Final = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_DAYS: Final = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")


def _named(words: tuple[str, ...], *, first: int) -> dict[str, int]:
    """Numbers by the full name and by its first three letters."""
    return {name: number for number, word in enumerate(words, first) for name in (word, word[:3])}


#: Lowest and highest number, and the names of numbers.
_FIELDS: Final[dict[str, tuple[int, int, dict[str, int]]]] = {
    "minute": (0, 59, {}),
    "hour": (0, 23, {}),
    "day_of_month": (1, 31, {}),
    "month_of_year": (1, 12, _named(_MONTHS, first=1)),
    "day_of_week": (0, 6, _named(_DAYS, first=0)),
}


def _field(name: str, value: CronField) -> str:
    """A field in the words of a cron line. What begins with a star keeps it: it decides about summer time."""
    parts = [str(part) for part in ([value] if isinstance(value, (int, str)) else value)]
    parts = [part.strip() for text in parts for part in text.split(",")]
    try:
        numbers = sorted({number for part in parts for number in _numbers(part, *_FIELDS[name])})
    except ValueError as error:
        low, high, _names = _FIELDS[name]
        raise ScheduleError(f"crontab({name}={value!r}): it is made of numbers from {low} to {high}: {error}") from None
    if len(parts) == 1 and parts[0].startswith("*"):
        return parts[0]
    return ",".join(map(str, numbers))


def _numbers(part: str, low: int, high: int, names: dict[str, int]) -> list[int]:
    span, slash, step = part.partition("/")
    first, dash, last = span.partition("-")
    if span == "*":
        found = list(range(low, high + 1))
    else:
        start = _number(first, low, high, names)
        end = _number(last, low, high, names) if dash else start
        around = [*range(start, high + 1), *range(low, end + 1)]
        found = list(range(start, end + 1)) if start <= end else around
    return found[:: _step(step)] if slash else found


def _step(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise ValueError(f"{text!r} is no step")
    return int(text)


def _number(text: str, low: int, high: int, names: dict[str, int]) -> int:
    number = int(text) if text.isdigit() else names.get(text.lower(), -1)
    if not low <= number <= high:
        raise ValueError(f"{text!r} is not")
    return number
