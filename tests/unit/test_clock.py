"""The clock's identifiers are what they claim to be."""

from __future__ import annotations

import uuid

from fastq import clock


def test_new_uuid_is_a_random_uuid_in_canonical_text() -> None:
    texts = {clock.new_uuid() for _ in range(1000)}
    parsed = [uuid.UUID(text) for text in texts]
    assert len(texts) == 1000
    assert {(each.version, each.variant) for each in parsed} == {(4, uuid.RFC_4122)}
    assert {str(each) for each in parsed} == texts


def test_random_hex_has_as_many_digits_as_asked() -> None:
    for count in (0, 1, 7, 8):
        digits = clock.random_hex(count)
        assert len(digits) == count
        assert not digits or int(digits, 16) >= 0


def test_times_know_their_zone() -> None:
    assert clock.utc_now().utcoffset() is not None
    assert clock.local_now().utcoffset() is not None
    assert abs(clock.utc_now().timestamp() - clock.now()) < 60


def test_monotonic_readings_share_one_clock() -> None:
    before = clock.monotonic()
    between = clock.monotonic_ns() / 1e9
    assert before <= between <= clock.monotonic()


def test_random_fraction_stays_below_one() -> None:
    assert all(0 <= clock.random_fraction() < 1 for _ in range(100))
