"""When a child's time is over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastq.worker.processes.recycle import BOOT_S, ChildLimits, jittered, nearly_done, too_old


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_jitter_is_downwards_and_at_most_a_tenth(limit: int, chance: float) -> None:
    assert limit * 0.9 <= jittered(limit, chance) <= limit


@pytest.mark.parametrize("limit", range(1, 10))
def test_small_limits_are_exact(limit: int) -> None:
    assert {jittered(limit, chance) for chance in (0.0, 0.5, 0.999)} == {limit}


def test_ages_differ() -> None:
    assert not too_old(1e9, 0.0, slot=0)
    assert too_old(100.0, 100.0, slot=0)
    assert not too_old(99.9, 100.0, slot=0)
    assert too_old(95.0, 100.0, slot=5)


def test_a_replacement_is_forked_in_time_and_not_before() -> None:
    assert not nearly_done(5, None, running=True, task_s=1.0)
    assert nearly_done(0, 1, running=True, task_s=0.0), "its only task has begun"
    assert not nearly_done(0, 1, running=False, task_s=0.0)
    assert not nearly_done(1, 3, running=True, task_s=1.0)
    assert nearly_done(2, 3, running=True, task_s=1.0)
    assert nearly_done(1000 - int(BOOT_S / 0.01), 1000, running=True, task_s=0.01)
    assert not nearly_done(800, 1000, running=True, task_s=0.0001), "no earlier than a tenth before the end"


def test_the_smaller_limit_of_memory_replaces() -> None:
    assert ChildLimits(soft_bytes=5, hard_bytes=9).least_bytes == 5
    assert ChildLimits(hard_bytes=9).least_bytes == 9
    assert not ChildLimits().any
