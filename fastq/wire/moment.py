"""Turn the times written in message headers into seconds since 1970."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, Final, cast

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


def read_moment(value: object) -> float:
    """Seconds since 1970 of an `eta` or `expires` header; ValueError if it is no time.

    Text without an offset is UTC: Celery makes it aware as UTC before anything else looks at it, whatever `utc` says.
    """
    if is_marked_datetime(value):
        value = cast("dict[str, Any]", value)["__value__"]
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no ISO 8601 text")
    return _since_epoch(parse_iso(value))


def is_marked_datetime(value: object) -> bool:
    """Whether it is the object kombu's JSON writes for a datetime."""
    return isinstance(value, dict) and value.keys() == {"__type__", "__value__"} and value["__type__"] == "datetime"


def parse_iso(text: str) -> datetime:
    """Read what Celery reads: all of ISO 8601's calendar, week and ordinal dates, with or without time and offset."""
    if not text.isascii() or "\0" in text:  # fromisoformat would let some of these pass, dateutil does not
        raise ValueError(f"{text!r} is no ISO 8601 time")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return _parse_uncommon(text)


def _parse_uncommon(text: str) -> datetime:
    # Python 3.10 knows neither "Z" nor week dates, no Python knows ordinal dates and "2026-11"; dateutil, which Celery
    # brings along, does. Without it we do at least understand "Z".
    isoparse = _isoparse()
    if isoparse is not None:
        return isoparse(text)
    if text.endswith(("Z", "z")):
        return datetime.fromisoformat(text[:-1] + "+00:00")
    raise ValueError(f"{text!r} is no ISO 8601 time")


def _isoparse() -> Callable[[str], datetime] | None:
    try:
        from dateutil.parser import isoparse  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return None
    return cast("Callable[[str], datetime]", isoparse)


def _since_epoch(moment: datetime) -> float:
    aware = moment if moment.utcoffset() is not None else moment.replace(tzinfo=timezone.utc)
    return (aware - _EPOCH) / timedelta(seconds=1)
