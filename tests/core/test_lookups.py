"""What a running worker changes in the ledger: revoked ids, the line of pending entries, times, entries of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastq import _core
from tests.core.ledger_lab import FAST, TASKS, Lab
from tests.core.task_ring import envelope

plain_only = pytest.mark.skipif(not FAST, reason="about plain messages; FASTQ_FAST=0 knows none")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


def message(task_id: str, **headers: object) -> bytes:
    """A plain message, but for these headers."""
    made = json.loads(envelope(TASKS[0].decode(), (), task_id=task_id))
    made["headers"].update(headers)
    return json.dumps(made).encode()


def odd_ids(lab: Lab) -> list[str]:
    return [json.loads(raw)["headers"]["id"] for _entry, raw in lab.ledger.take_odd()]


# ---------------------------------------------------------------------------- revoked


@plain_only
def test_revoked_ids_are_looked_at(lab: Lab) -> None:
    lab.ledger.revoked = {b"two"}
    lab.take([message("one"), message("two"), message("three")])
    assert odd_ids(lab) == ["two"]
    assert lab.ledger.pending == 2


@plain_only
def test_the_set_may_change_at_any_time(lab: Lab) -> None:
    revoked: set[bytes] = set()
    lab.ledger.revoked = revoked
    lab.take([message("one")])
    revoked.add(b"one")
    lab.take([message("one")])
    assert odd_ids(lab) == ["one"]
    revoked.clear()
    lab.take([message("one")])
    assert odd_ids(lab) == []


@plain_only
@pytest.mark.parametrize("stamped", [["colour"], [], "colour", {"a": [None]}, 7])
def test_stamped_messages_are_looked_at_when_stamps_are_revoked(lab: Lab, stamped: object) -> None:
    lab.take([message("before", stamped_headers=stamped)])
    assert odd_ids(lab) == []
    lab.ledger.stamps_revoked = True
    lab.take([message("plain"), message("null", stamped_headers=None), message("after", stamped_headers=stamped)])
    assert odd_ids(lab) == ["after"]


@plain_only
def test_stamps_of_another_s_headers_do_not_count(lab: Lab) -> None:
    lab.ledger.stamps_revoked = True
    lab.take([message("inner", headers={"stamped_headers": ["x"]})])
    assert odd_ids(lab) == []


# ---------------------------------------------------------------------------- the line


def line_up(lab: Lab, count: int) -> list[int]:
    """Pending entries with the payloads b"0", b"1"..."""
    batch, _number = lab.claim([b"odd"] * count)
    for _ in range(count):
        lab.ledger.take_one(batch, b"odd")
    lab.ledger.close_batch(batch)
    entries = [entry for entry, _ in lab.ledger.take_odd()]
    for number, entry in enumerate(entries):
        lab.ledger.place(entry, b"%d" % number, task=number)
    return entries


def payloads(lab: Lab) -> list[bytes]:
    return [payload for _entry, _task, _flags, payload in lab.ledger.line()]


def test_the_line_is_shown_in_order_and_without_verdicts(lab: Lab) -> None:
    entries = line_up(lab, 3)
    lab.ledger.place(lab.ledger.adopt(), b"verdict", kind=_core.VERDICT, first=True)
    assert [entry for entry, *_ in lab.ledger.line()] == entries
    assert [task for _, task, *_ in lab.ledger.line()] == [0, 1, 2]
    assert payloads(lab) == [b"0", b"1", b"2"]


@given(wanted=st.sets(st.integers(0, 11)), dealt=st.integers(0, 5))
@settings(max_examples=60)
def test_whoever_is_pulled_is_out_and_the_others_keep_their_order(
    tmp_path_factory: pytest.TempPathFactory, wanted: set[int], dealt: int
) -> None:
    lab = Lab(tmp_path_factory.mktemp("pull"))
    try:
        entries = line_up(lab, 12)
        port = lab.open_child(0)
        lab.ledger.set_depth(0, dealt or 1)
        lab.ledger.deal()
        lab.ledger.recall(0)
        lab.ledger.pull({entries[number] for number in wanted})
        assert payloads(lab) == [b"%d" % number for number in range(12) if number not in wanted]
        assert lab.ledger.pending == 12 - len(wanted)
        for number in sorted(wanted):
            lab.ledger.place(entries[number], b"again")
        assert payloads(lab)[12 - len(wanted) :] == [b"again"] * len(wanted)
        del port
    finally:
        lab.close()


def test_pulling_what_is_not_in_line_changes_nothing(lab: Lab) -> None:
    line_up(lab, 2)
    lab.ledger.pull({77, 78})
    assert payloads(lab) == [b"0", b"1"]


# ---------------------------------------------------------------------------- times


@given(
    times=st.lists(st.integers(0, 20), min_size=1, max_size=30),
    hastened=st.sets(st.integers(0, 29)),
    at=st.integers(0, 20),
)
@settings(max_examples=80)
def test_hastened_entries_come_at_their_new_time_and_in_the_order_in_which_they_were_parked(
    tmp_path_factory: pytest.TempPathFactory, times: list[int], hastened: set[int], at: int
) -> None:
    lab = Lab(tmp_path_factory.mktemp("hasten"))
    try:
        entries = line_up(lab, len(times))
        lab.ledger.pull(set(entries))
        for entry, time in zip(entries, times, strict=True):
            lab.ledger.park(entry, float(time))
        lab.ledger.hasten({entries[n] for n in hastened if n < len(entries)}, float(at))
        due = [at if number in hastened else time for number, time in enumerate(times)]
        expected = [entries[n] for n in sorted(range(len(times)), key=lambda n: (due[n], n))]
        assert [entry for entry, *_ in lab.ledger.take_due(100.0, 100)] == expected
    finally:
        lab.close()


# ---------------------------------------------------------------------------- entries without a message on the broker


@pytest.mark.parametrize("flags", [0, _core.LATE])
def test_an_adopted_entry_is_run_and_told_to_nobody(lab: Lab, flags: int) -> None:
    port = lab.open_child(0)
    entry = lab.ledger.adopt()
    assert lab.ledger.where(entry) is None
    lab.ledger.place(entry, b"broadcast", task=0, flags=flags)
    lab.ledger.deal()
    assert port.wait(0.0) == 1
    assert port.start()
    assert port.payload() == b"broadcast"
    port.outcome(_core.REQUEUE, 0, b"broadcast")
    port.count_executed()
    assert lab.ledger.collect() == []
    assert not lab.flush()
    assert lab.ledger.size == 0


def test_an_adopted_entry_can_be_forgotten(lab: Lab) -> None:
    lab.ledger.quit(lab.ledger.adopt())
    assert lab.ledger.size == 0


def test_an_adopted_entry_cannot_wait_on_the_broker(lab: Lab) -> None:
    with pytest.raises(ValueError, match="no message to fetch"):
        lab.ledger.park(lab.ledger.adopt(), 1.0)


def test_what_is_started_of_it_is_nobody_s_claim(lab: Lab) -> None:
    """Whoever restores a dead worker reads the segment."""
    port = lab.open_child(0)
    lab.ledger.place(lab.ledger.adopt(), b"broadcast", task=0)
    lab.ledger.deal()
    assert port.wait(0.0) == 1
    assert port.start()
    number = lab.take([b"odd"])
    assert all(claim != number for _key, claim, _position in lab.segment.started_unconfirmed())


# ---------------------------------------------------------------------------- more tasks


@plain_only
def test_a_program_that_has_grown(lab: Lab) -> None:
    lab.ledger.know([*TASKS, *(b"t.more%d" % n for n in range(100))], [False] * 102, [(0.0, 0.0)] * 102)
    lab.take([envelope("t.more99", (), task_id="x")])
    assert lab.ledger.accepted()[101] == 0
    assert [task for _, task, *_ in lab.ledger.line()] == [101]
