"""The set of revoked ids keeps Celery's bounds; stamps are found as Celery finds them."""

from __future__ import annotations

from typing import Any

import pytest
from celery.utils.collections import LimitedSet
from hypothesis import given
from hypothesis import strategies as st

from fastq import clock
from fastq.worker.revoked import Revoked


class Time:
    """A clock that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def test_oldest_first(time: Time) -> None:
    revoked = Revoked()
    revoked.add(["a", "b", "c"])
    revoked.add(["a"])
    assert revoked.ids == ["b", "c", "a"]
    assert revoked.raw == {b"a", b"b", b"c"}
    assert "a" in revoked
    assert "d" not in revoked
    assert len(revoked) == 3


def test_the_oldest_leave_when_there_are_too_many() -> None:
    revoked = Revoked(most=3)
    revoked.add(str(number) for number in range(10))
    assert revoked.ids == ["7", "8", "9"]
    assert revoked.raw == {b"7", b"8", b"9"}


def test_the_aged_leave_when_somebody_asks(time: Time) -> None:
    revoked = Revoked(expires_s=10)
    revoked.add(["old"])
    time.now += 9
    revoked.add(["new"])
    revoked.purge()
    assert revoked.ids == ["old", "new"]
    time.now += 1
    assert "old" in revoked
    revoked.purge()
    assert revoked.ids == ["new"]


steps = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 4)), max_size=40)


@given(steps=steps, most=st.integers(0, 6), expires_s=st.sampled_from([0, 3, 8]))
def test_as_celery_s_set(steps: list[tuple[str, int]], most: int, expires_s: int) -> None:
    celerys, ours = LimitedSet(maxlen=most, expires=expires_s), Revoked(most=most, expires_s=expires_s)
    now = 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "monotonic", lambda: now)
        patch.setattr("celery.utils.collections.time.monotonic", lambda: now)
        for name, later in steps:
            now += later
            celerys.add(name)
            ours.add([name])
            assert ours.ids == list(celerys)
        celerys.purge()
        ours.purge()
        assert ours.ids == list(celerys)
    assert ours.raw == {name.encode() for name in ours.ids}


@pytest.mark.parametrize(
    ("revoked", "carried", "found"),
    [
        ({"c": "red"}, {"c": "red"}, {"c": "red"}),
        ({"c": ["red", "blue"]}, {"c": ["green", "blue"]}, {"c": "blue"}),
        ({"c": "red"}, {"c": ["red"]}, {"c": "red"}),
        ({"c": "red"}, {"d": "red"}, None),
        ({"c": "red"}, {"c": "reddish"}, None),
        ({"c": "red"}, {"c": None}, None),
        ({"c": [None]}, {"c": None}, None),
        ({"c": 1}, {"c": 1}, {"c": 1}),
        ({}, {"c": 1}, None),
    ],
)
def test_stamps(revoked: dict[str, Any], carried: dict[str, Any], found: dict[str, Any] | None) -> None:
    made = Revoked()
    made.add_stamps(revoked)
    assert made.by_stamp(carried) == found


def test_stamps_add_up() -> None:
    made = Revoked()
    made.add_stamps({"c": "red"})
    made.add_stamps({"c": ["blue"]})
    assert made.by_stamp({"c": "red"}) == {"c": "red"}
    assert made.by_stamp({"c": "blue"}) == {"c": "blue"}
