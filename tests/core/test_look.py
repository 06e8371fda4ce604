"""Views of the ledger: what waits, what lies in rings and in line, and how many of each task were started."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastq import _core
from tests.core.ledger_lab import LATE_TASK, TASKS, Lab
from tests.core.task_ring import envelope


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


def claim(lab: Lab, names: list[bytes]) -> list[int]:
    """Take messages that are not plain into the caller's hands; their entries."""
    batch, _number = lab.claim(names)
    for name in names:
        lab.ledger.take_one(batch, name)
    lab.ledger.close_batch(batch)
    return [entry for entry, _raw in lab.ledger.take_odd()]


def test_waiting_messages_are_seen_in_the_order_of_their_times(lab: Lab) -> None:
    entries = claim(lab, [b"m%d" % number for number in range(60)])
    times = [float(random.Random(7).randrange(20)) for _ in entries]
    for entry, at in zip(entries, times, strict=True):
        lab.ledger.park(entry, at)
    seen = lab.ledger.waiting_places(1000)
    assert [(at, entry) for entry, at, _, _ in seen] == sorted(zip(times, entries, strict=True), key=lambda one: one[0])
    assert lab.ledger.waiting_places(7) == seen[:7]
    taken = lab.ledger.take_due(100.0, 1000)
    assert [(entry, claim, at) for entry, _, claim, at in seen] == taken


def test_messages_in_rings_and_in_line_are_seen_until_they_are_started(lab: Lab) -> None:
    port = lab.open_child(0)
    port.ready(4711)
    lab.ledger.set_depths(2)
    for number, entry in enumerate(claim(lab, [b"x"] * 5)):
        lab.ledger.place(entry, b"p%d" % number, task=LATE_TASK, flags=_core.LATE | _core.ODD)
    lab.ledger.deal()
    assert [payload for _, payload in lab.ledger.unstarted_messages(100)] == [b"p0", b"p1", b"p2", b"p3", b"p4"]
    assert lab.ledger.accepted()[LATE_TASK] == 0
    assert port.wait(0.0) == 1
    assert port.start()
    assert [payload for _, payload in lab.ledger.unstarted_messages(2)] == [b"p1", b"p2"]
    assert lab.ledger.accepted()[LATE_TASK] == 1
    lab.ledger.recall(0)
    assert sorted(payload for _, payload in lab.ledger.unstarted_messages(100)) == [b"p1", b"p2", b"p3", b"p4"]
    assert lab.ledger.accepted()[LATE_TASK] == 1
    lab.ledger.withdraw(100)
    assert lab.ledger.unstarted_messages(100) == []
    assert lab.ledger.accepted()[LATE_TASK] == 1


def test_plain_messages_are_counted_by_their_task(lab: Lab) -> None:
    lab.take([envelope(TASKS[0].decode(), (), task_id=str(number)) for number in range(3)])
    for entry, raw in lab.ledger.take_odd():  # without the compiled way they all come here
        lab.ledger.place(entry, raw, task=0)
    assert len(lab.ledger.unstarted_messages(100)) == 3
    assert sum(lab.ledger.accepted()) == 0
