"""Rate limits: what they say, and whose turn it is when."""

from __future__ import annotations

import pytest

from fastq.errors import SettingError
from fastq.worker.pipeline.rate import Buckets, interval_s


@pytest.mark.parametrize(
    ("rate", "every_s"),
    [
        (None, 0.0),
        ("", 0.0),
        (0, 0.0),
        ("0/s", 0.0),
        ("10/m", 6.0),
        ("2/s", 0.5),
        ("1/h", 3600.0),
        ("0.5", 2.0),
        (4, 0.25),
    ],
)
def test_rates_are_read_as_celery_reads_them(rate: str | float | None, every_s: float) -> None:
    assert interval_s(rate) == every_s


@pytest.mark.parametrize("rate", ["often", "10/d", "-1/s", "1 0"])
def test_what_is_no_rate_is_a_setting_s_error(rate: str) -> None:
    with pytest.raises(SettingError, match=r"is no rate; write 10, 10/s"):
        interval_s(rate)


def test_turns_follow_each_other_and_unused_ones_are_not_saved() -> None:
    buckets = Buckets({3: 2.0})
    assert buckets.turn(1, task=3, now=100.0) is None
    assert buckets.turn(2, task=3, now=100.5) == 102.0
    assert buckets.turn(4, task=3, now=101.0) == 104.0
    assert len(buckets) == 2
    assert buckets.turn(2, task=3, now=102.0) is None, "it has waited"
    assert len(buckets) == 1
    buckets.forget(4)
    assert len(buckets) == 0
    assert buckets.turn(5, task=3, now=500.0) is None
    assert buckets.turn(6, task=3, now=500.0) == 502.0, "a bucket holds one token, however long nothing came"


def test_tasks_without_a_limit_go_on() -> None:
    buckets = Buckets({3: 2.0})
    assert [buckets.turn(entry, task=task, now=1.0) for entry, task in enumerate([1, 1, None, None])] == [None] * 4
