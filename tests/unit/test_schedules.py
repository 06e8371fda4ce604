"""When a schedule is due: intervals, cron lines, clocks that are changed, and what was missed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab as celery_crontab
from hypothesis import given, settings
from hypothesis import strategies as st

from fastq.errors import ScheduleError
from fastq.schedules import GRACE_MS, MOST_MISSED, Cron, Every, cron, crontab, every, most_of, pending

BERLIN = "Europe/Berlin"


def ms(text: str, zone: str = "UTC") -> int:
    """Milliseconds of a local time, written as ISO 8601."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def times(schedule: Cron, start: str, count: int, zone: str = BERLIN) -> list[str]:
    """The next due times as local times with their offset."""
    found, moment = [], ms(start, zone)
    for _ in range(count):
        following = schedule.after(moment)
        assert following is not None
        moment = following
        found.append(datetime.fromtimestamp(moment / 1000, ZoneInfo(zone)).strftime("%d %H:%M%z"))
    return found


# ---------------------------------------------------------------------------- intervals


def test_intervals_are_counted_from_1970() -> None:
    assert every(10).after(0) == 10_000
    assert every(10).after(9_999) == 10_000
    assert every(10).after(10_000) == 20_000
    assert every(timedelta(days=1)).after(ms("2026-03-01T12:00")) == ms("2026-03-02T00:00")


def test_an_offset_moves_them() -> None:
    assert every(60, offset=15).after(0) == 15_000
    assert every(60, offset=75) == every(60, offset=timedelta(seconds=15))
    assert every(60, offset=-15).after(0) == 45_000


@pytest.mark.parametrize("interval", [0, -1, 0.01, "10", None, True, float("nan"), float("inf")])
def test_an_interval_that_is_none_is_refused(interval: Any) -> None:
    with pytest.raises(ScheduleError, match="interval"):
        every(interval)


@given(
    interval=st.integers(100, 10**6),
    offset=st.integers(0, 10**6),
    after=st.integers(0, 10**7),
    length=st.integers(0, 10**6),
    most=st.integers(1, 20),
)
def test_the_last_due_times_of_an_interval_are_the_last_of_all(
    interval: int, offset: int, after: int, length: int, most: int
) -> None:
    schedule = Every(interval_ms=interval, offset_ms=offset % interval)
    until, found, moment = after + length, [], schedule.after(after)
    while moment <= until:
        found.append(moment)
        moment = schedule.after(moment)
    assert schedule.last_few(after_ms=after, until_ms=until, most=most) == found[-most:]


# ---------------------------------------------------------------------------- cron lines


def test_cron_lines_have_ranges_steps_lists_and_names() -> None:
    schedule = cron("*/20 8-10/2 * mar mon,Wed", tz=BERLIN)
    assert times(schedule, "2026-03-01T00:00", 7) == [
        *("02 08:00+0100", "02 08:20+0100", "02 08:40+0100"),
        *("02 10:00+0100", "02 10:20+0100", "02 10:40+0100", "04 08:00+0100"),
    ]


def test_words_stand_for_lines() -> None:
    assert cron("@daily") == cron("0 0 * * *")
    assert cron(" @Hourly ") == cron("0  *  * * *")


def test_days_of_month_and_week_are_alternatives_in_a_line_and_conditions_in_crontab() -> None:
    either = cron("0 0 12 * 5", tz=BERLIN)
    assert times(either, "2026-02-01T00:00", 3) == ["06 00:00+0100", "12 00:00+0100", "13 00:00+0100"]
    friday_13th = crontab(minute=0, hour=0, day_of_month=13, day_of_week=5)
    assert times(friday_13th, "2026-02-01T00:00", 3, "UTC") == ["13 00:00+0000"] * 3  # February, March, November


@pytest.mark.parametrize(
    "line",
    ["", "* * * *", "* * * * * *", "61 * * * *", "* 25 * * *", "x * * * *", "0 0 30 2 *", "@reboot", "*/0 * * * *"],
)
def test_a_line_that_is_none_is_named(line: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        cron(line)
    assert repr(line) in caught.value.message


def test_a_zone_that_is_none_is_named() -> None:
    with pytest.raises(ScheduleError, match="'Europe/Atlantis'"):
        cron("@daily", tz="Europe/Atlantis")
    assert cron("@daily", tz=ZoneInfo(BERLIN)) == cron("@daily", tz=BERLIN)
    assert cron("@daily", tz=timezone.utc).zone == "UTC"


def test_the_applications_zone_holds_where_there_is_no_other() -> None:
    assert cron("@daily").in_zone(BERLIN) == cron("@daily", tz=BERLIN)
    assert cron("@daily", tz="UTC").in_zone(BERLIN).zone == "UTC"
    assert cron("@daily").spec == cron("@daily", tz="UTC").spec


# ---------------------------------------------------------------------------- clocks are changed


def test_a_fixed_time_that_does_not_exist_is_the_first_one_after_it() -> None:
    # Clocks go from 02:00 to 03:00 on the 29th of March.
    assert times(cron("30 2 * * *", tz=BERLIN), "2026-03-28T00:00", 3) == [
        *("28 02:30+0100", "29 03:00+0200", "30 02:30+0200"),
    ]


def test_a_fixed_time_that_exists_twice_is_used_once() -> None:
    # Clocks go from 03:00 back to 02:00 on the 25th of October.
    schedule = cron("30 2 * * *", tz=BERLIN)
    assert times(schedule, "2026-10-24T12:00", 2) == ["25 02:30+0200", "26 02:30+0100"]
    in_the_second_hour = ms("2026-10-25T01:10")  # 02:10+0100
    assert schedule.after(in_the_second_hour) == ms("2026-10-26T02:30", BERLIN)


def test_what_runs_all_the_time_goes_by_elapsed_time() -> None:
    schedule = cron("*/30 * * * *", tz=BERLIN)
    spring, autumn = times(schedule, "2026-03-29T01:00", 3), times(schedule, "2026-10-25T01:30", 5)
    assert spring == ["29 01:30+0100", "29 03:00+0200", "29 03:30+0200"]
    assert autumn == ["25 02:00+0200", "25 02:30+0200", "25 02:00+0100", "25 02:30+0100", "25 03:00+0100"]


LINES = ["30 2 * * *", "*/7 1-3 * * *", "0 */2 * * *", "15,45 2 * * 0", "* * * * *", "0 3 25 10 *"]


@settings(max_examples=60)
@given(
    line=st.sampled_from(LINES),
    around=st.sampled_from(["2026-03-29T01:00", "2026-10-25T01:00"]),
    shift=st.integers(-3600 * 6, 3600 * 6),
    hours=st.integers(0, 12),
    most=st.integers(1, 9),
)
def test_the_last_due_times_of_a_line_are_the_last_of_all(
    line: str, around: str, shift: int, hours: int, most: int
) -> None:
    schedule, after = cron(line, tz=BERLIN), ms(around) + shift * 1000
    until, found, moment = after + hours * 3_600_000, [], schedule.after(after)
    while moment is not None and moment <= until:
        found.append(moment)
        moment = schedule.after(moment)
    assert found == sorted(set(found))
    assert schedule.last_few(after_ms=after, until_ms=until, most=most) == found[-most:]


# ---------------------------------------------------------------------------- Celery's crontab

ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"minute": 0, "hour": "*/3"},
    {"minute": "*/15", "day_of_week": "sunday"},
    {"minute": 30, "hour": 7, "day_of_week": "thu-sun"},
    {"minute": [0, 20, 40], "hour": "22-2"},
    {"minute": "0", "hour": "0", "day_of_month": "1-7,15-21", "day_of_week": "mon,wed"},
    {"minute": 0, "hour": 0, "day_of_month": "*/2", "month_of_year": "nov-february/2"},
    {"minute": "5-55/25", "hour": {3, 4}, "day_of_week": 0},
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_crontab_is_due_when_celerys_is(arguments: dict[str, Any]) -> None:
    """Against Celery's own answer, from one due time to the next."""
    app = Celery(set_as_current=False)
    app.conf.timezone = "UTC"
    start = datetime(2026, 1, 30, 11, 17, tzinfo=timezone.utc)
    theirs, moment = [], start
    for _ in range(12):
        now = moment
        schedule = celery_crontab(**arguments, nowfun=lambda now=now: now, app=app)
        delta = schedule.remaining_delta(moment, tz=timezone.utc)
        moment = delta[0] + delta[1]
        theirs.append(int(moment.timestamp()) * 1000)
    ours, last = [], int(start.timestamp()) * 1000
    for _ in range(12):
        following = crontab(**arguments).after(last)
        assert following is not None
        last = following
        ours.append(last)
    assert ours == theirs


@pytest.mark.parametrize(
    "arguments",
    [
        {"minute": 60},
        {"hour": "24"},
        {"day_of_week": "someday"},
        {"minute": "*/0"},
        {"minute": ""},
        {"day_of_month": -1},
    ],
    ids=str,
)
def test_a_field_that_is_none_is_named(arguments: dict[str, Any]) -> None:
    with pytest.raises(ScheduleError) as caught:
        crontab(**arguments)
    ((name, value),) = arguments.items()
    assert f"crontab({name}={value!r})" in caught.value.message


# ---------------------------------------------------------------------------- what was missed

TEN = every(10)


def sent(missed: Any, *, late_s: float, last_s: float = 0) -> list[int]:
    """Seconds of the due times that are sent for, the newest being due at 100 s."""
    found = pending(TEN, last_ms=int(last_s * 1000), now_ms=int(100_000 + late_s * 1000), missed=missed)
    assert found is not None
    assert found.newest_ms == 100_000
    return [due // 1000 for due in found.send]


def test_nothing_is_due_before_its_time() -> None:
    assert pending(TEN, last_ms=90_000, now_ms=99_999, missed="all") is None
    assert pending(TEN, last_ms=100_000, now_ms=109_999, missed="all") is None


def test_policies_for_what_was_missed() -> None:
    assert sent("once", late_s=3) == [100]
    assert sent("skip", late_s=3) == [100]
    assert sent("all", late_s=3, last_s=70) == [80, 90, 100]
    assert sent(2, late_s=3) == [90, 100]
    assert sent(0, late_s=3) == [100]


def test_skip_leaves_out_what_is_later_than_another_leader_would_be() -> None:
    hourly, due = every(3600), 7_200_000
    at_grace = pending(hourly, last_ms=0, now_ms=due + GRACE_MS, missed="skip")
    beyond = pending(hourly, last_ms=0, now_ms=due + GRACE_MS + 1, missed="skip")
    assert at_grace is not None
    assert at_grace.send == [due]
    assert beyond is not None
    assert (beyond.send, beyond.newest_ms, beyond.left_out) == ([], due, True)


def test_it_says_whether_something_was_left_out() -> None:
    one = pending(TEN, last_ms=90_000, now_ms=100_003, missed="once")
    two = pending(TEN, last_ms=80_000, now_ms=100_003, missed="once")
    assert one is not None
    assert two is not None
    assert (one.left_out, two.left_out) == (False, True)


def test_all_is_bounded() -> None:
    found = pending(every(1), last_ms=0, now_ms=10**9, missed="all")
    assert found is not None
    assert len(found.send) == MOST_MISSED
    assert found.send[-1] == 10**9


@pytest.mark.parametrize("missed", ["never", -1, MOST_MISSED + 1, True, None])
def test_a_policy_that_is_none_is_refused(missed: Any) -> None:
    with pytest.raises(ScheduleError, match="missed"):
        most_of(missed)


def test_years_of_a_minutely_line_are_not_walked_through() -> None:
    found = pending(cron("* * * * *"), last_ms=ms("2000-01-01T00:00"), now_ms=ms("2026-01-01T00:00"), missed="once")
    assert found is not None
    assert found.send == [ms("2026-01-01T00:00")]
