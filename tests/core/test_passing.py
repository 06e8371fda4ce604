"""Messages of several priorities in one ledger: who goes first, what is taken back, what is given back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastq import _core
from tests.core.ledger_lab import FAST, PREFIX, TASKS, Lab
from tests.core.task_ring import envelope

pytestmark = pytest.mark.skipif(not FAST, reason="the scenes are of plain messages; FASTQ_FAST=0 knows none")

FIRST, SECOND, THIRD = 0, 1, 2


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    made.ledger.add_key(b"second", PREFIX, b"index", b"", SECOND)
    made.ledger.add_key(b"third", PREFIX, b"index", b"", THIRD)
    yield made
    made.close()


def message(name: str) -> bytes:
    return envelope(TASKS[1].decode(), (), task_id=name)


def take(lab: Lab, names: str, *, key: int) -> None:
    lab.take([message(name) for name in names], key=key)


def names(messages: list[bytes]) -> str:
    """The one-letter ids."""
    return "".join(raw.split(b'"id": "')[1][:1].decode() for raw in messages)


def in_line(lab: Lab) -> str:
    return names([payload for *_rest, payload in lab.ledger.line()])


def next_name(port: _core.ChildPort) -> str:
    """Start what comes next, and end it."""
    while True:
        assert port.wait(0.0) == 1
        if port.start():
            name = names([port.payload()])
            port.outcome(_core.ACK, 0, b"")
            port.count_executed()
            return name


def test_the_line_is_by_priority_and_within_it_as_they_came(lab: Lab) -> None:
    take(lab, "st", key=THIRD)
    take(lab, "ab", key=FIRST)
    take(lab, "mn", key=SECOND)
    take(lab, "c", key=FIRST)
    take(lab, "u", key=THIRD)
    assert in_line(lab) == "abcmnstu"
    assert lab.ledger.last_rank == THIRD
    assert [place[1] for place in lab.ledger.withdraw(4)] == [FIRST, FIRST, FIRST, SECOND]
    take(lab, "d", key=FIRST)
    assert in_line(lab) == "dnstu"


def test_what_is_taken_back_is_first_of_its_priority_only(lab: Lab) -> None:
    lab.open_child(0)
    lab.ledger.set_depths(9)
    take(lab, "st", key=THIRD)
    lab.ledger.deal()
    lab.ledger.set_depths(0)
    lab.open_child(1)
    lab.ledger.bench(1, True)
    take(lab, "u", key=THIRD)
    take(lab, "ab", key=FIRST)
    lab.ledger.recall(0)
    assert in_line(lab) == "abstu"


def test_an_urgent_message_goes_before_what_a_child_has_not_started(lab: Lab) -> None:
    port = lab.open_child(0)
    lab.ledger.set_depths(9)
    take(lab, "stu", key=THIRD)
    lab.ledger.deal()
    assert next_name(port) == "s"
    lab.ledger.collect()
    before = lab.ledger.passing
    take(lab, "a", key=FIRST)
    assert (before, lab.ledger.passing) == (False, True)
    assert lab.ledger.let_pass() == 2
    lab.ledger.deal()
    assert [next_name(port) for _ in range(3)] == ["a", "t", "u"]


def test_only_as_many_children_are_disturbed_as_there_are_urgent_messages(lab: Lab) -> None:
    for slot in (0, 1):
        lab.open_child(slot)
    lab.ledger.set_depths(3)
    take(lab, "stuvwx", key=THIRD)
    lab.ledger.deal()
    take(lab, "a", key=FIRST)
    assert lab.ledger.let_pass() == 3
    assert lab.ledger.unstarted() == 3


def test_messages_of_one_priority_disturb_nobody(lab: Lab) -> None:
    lab.open_child(0)
    lab.ledger.set_depths(2)
    take(lab, "stuv", key=THIRD)
    lab.ledger.deal()
    take(lab, "w", key=THIRD)
    assert not lab.ledger.passing
    assert lab.ledger.let_pass() == 0


def test_what_is_given_back_lies_at_the_front_of_its_queue_as_it_was(lab: Lab) -> None:
    take(lab, "ab", key=FIRST)
    take(lab, "m", key=SECOND)
    take(lab, "stu", key=THIRD)
    assert lab.ledger.may_yield(FIRST) == 4
    assert lab.ledger.may_yield(THIRD) == 0
    assert lab.ledger.give_back(2, FIRST) == [THIRD, THIRD]
    assert in_line(lab) == "abms"
    assert lab.flush()
    assert lab.broker.queues == {b"third": [message("t"), message("u")]}
    assert lab.ledger.give_back(9, FIRST) == [SECOND, THIRD]
    assert lab.ledger.last_rank == FIRST
    assert lab.flush()
    assert lab.broker.queues[b"second"] == [message("m")]
    assert lab.broker.queues[b"third"] == [message("s"), message("t"), message("u")]
    assert lab.ledger.size == 2


def test_a_verdict_is_not_given_back(lab: Lab) -> None:
    lab.take([b"no message"], key=THIRD)
    [(entry, _raw)] = lab.ledger.take_odd()
    lab.ledger.place(entry, b"verdict", kind=_core.VERDICT, flags=_core.LATE, first=True)
    assert lab.ledger.may_yield(FIRST) == 0
    assert lab.ledger.give_back(1, FIRST) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("tdprgw"), st.integers(0, 2)), max_size=40))
def test_the_line_is_always_sorted_and_nothing_is_lost(steps: list[tuple[str, int]]) -> None:
    lab = Lab(Path("/nowhere"), task_bytes=1 << 16)
    lab.ledger.add_key(b"second", PREFIX, b"index", b"", SECOND)
    lab.ledger.add_key(b"third", PREFIX, b"index", b"", THIRD)
    for slot in (0, 1):
        lab.open_child(slot)
    lab.ledger.set_depths(4)
    taken = returned = 0
    for what, number in steps:
        if what == "t":
            take(lab, "xyz", key=number)
            taken += 3
        elif what == "d":
            lab.ledger.deal()
        elif what == "p":
            lab.ledger.let_pass()
        elif what == "r":
            lab.ledger.recall(number % 2)
        elif what == "g":
            returned += len(lab.ledger.give_back(number, 0))
        else:
            withdrawn = lab.ledger.withdraw(number)
            returned += len(withdrawn)
            for entry, *_place in withdrawn:
                lab.ledger.quit(entry)
        ranks = [lab.ledger.where(entry)[0] for entry, *_rest in lab.ledger.line()]  # type: ignore[index]
        assert ranks == sorted(ranks)
        assert lab.ledger.last_rank == (ranks[-1] if ranks else 0)
        assert taken == len(ranks) + lab.ledger.unstarted() + returned
        assert lab.ledger.pending == len(ranks)
    lab.close()
