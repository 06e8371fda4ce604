"""Single properties of the ledger, each by a scene of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastq import _core
from tests.core.ledger_lab import FAST, LATE_TASK, STAMP, TASKS, Lab
from tests.core.task_ring import envelope

pytestmark = pytest.mark.skipif(not FAST, reason="the scenes are of plain messages; FASTQ_FAST=0 knows none")

RESULT = b"*1\r\n$4\r\nPING\r\n"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


def late(name: str, *, size: int = 0) -> bytes:
    return envelope(TASKS[LATE_TASK].decode(), ("x" * size,), task_id=name)


def early(name: str, *, size: int = 0) -> bytes:
    return envelope(TASKS[0].decode(), ("x" * size,), task_id=name)


def begin(port: _core.ChildPort) -> bytes:
    """Start the next frame that has not been taken back; its payload."""
    while True:
        assert port.wait(0.0) == 1
        if port.start():
            return port.payload()


def end(port: _core.ChildPort, result: bytes = b"") -> None:
    port.outcome(_core.ACK, 1 if result else 0, result)
    port.count_executed()


def fill(lab: Lab, count: int, *, depth: int = 10_000, payload: bytes = b"p") -> None:
    """Pending entries with tiny payloads."""
    batch, _number = lab.claim([b"not plain"] * count)
    for _ in range(count):
        lab.ledger.take_one(batch, b"not plain")
    lab.ledger.close_batch(batch)
    for entry, _raw in lab.ledger.take_odd():
        lab.ledger.place(entry, payload, flags=_core.LATE)
    lab.ledger.set_depths(depth)


# ---------------------------------------------------------------------------- rings


def test_a_pad_is_not_written_over_before_the_child_has_passed_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path, task_bytes=4096)
    port = lab.open_child(0)
    lab.ledger.set_depths(100)
    expected = [late(f"{n}", size=n * 37 % 60) for n in range(200)]
    for n, message in enumerate(expected):
        lab.take([message])
        lab.ledger.deal()
        if n % 3 == 2:
            lab.ledger.collect()
            lab.flush()
            lab.ledger.deal()
    seen = []
    while lab.ledger.size:
        if port.wait(0.0) == 1:
            seen.append(begin(port))
            end(port)
        lab.ledger.collect()
        lab.flush()
        lab.ledger.deal()
    assert seen == expected
    lab.close()


def test_no_more_frames_are_out_than_can_be_remembered(tmp_path: Path) -> None:
    """Frame numbers wrap around at 4096 in the ledger's table; nothing is dealt that would meet its own number."""
    lab = Lab(tmp_path, slots=1, task_bytes=1 << 20, result_bytes=1 << 20)
    port = lab.open_child(0)
    fill(lab, 10_000)
    done = 0
    for _round in range(5):
        left = lab.ledger.deal()
        out = lab.ledger.busy()
        assert out == min(4096, 10_000 - done)
        assert left == 10_000 - done - out
        for _ in range(out):
            begin(port)
            end(port)
        assert lab.ledger.collect() == []
        done += out
        assert lab.ledger.deal() == left or done == 10_000, "dealt before the broker had confirmed"
        lab.flush()
    assert (done, lab.ledger.size) == (10_000, 0)
    lab.close()


def test_a_child_without_room_does_not_hold_up_the_others(lab: Lab) -> None:
    """The idle child's ring is full of frames that the broker has not confirmed; the busy child has room."""
    first, second = lab.open_child(0), lab.open_child(1)
    lab.ledger.set_depth(0, 100)
    lab.ledger.set_depth(1, 0)
    lab.take([late(f"{n}") for n in range(9)])
    lab.ledger.deal()
    assert (lab.ledger.pending, len(lab.views[0].look())) == (0, 8)
    for _ in range(8):
        begin(first)
        end(first)
    lab.ledger.collect()
    lab.ledger.set_depth(1, 100)
    begin(second)
    lab.take([late("next", size=40)])
    assert lab.ledger.deal() == 0
    end(second)
    assert b"next" in begin(second)


def test_results_of_every_size_fit_at_every_place(tmp_path: Path) -> None:
    """A result of up to half the ring never waits for room that cannot come."""
    for place in range(32, 4096, 8):
        lab = Lab(tmp_path, slots=1, result_bytes=4096)
        port = lab.open_child(0)
        port.store(1, b"x" * (place - 32))
        lab.ledger.collect()
        for size in (2000, 2007, 2008, 2009, 2016, 2048, 2049, 5000):
            port.store(1, b"y" * size)  # would sleep for ever
            lab.ledger.collect()
        lab.close()


# ---------------------------------------------------------------------------- what was taken back does not count


def test_frames_taken_back_are_no_work(lab: Lab) -> None:
    """While a long task runs, void frames lie behind it: they must not look like messages that are held."""
    port = lab.open_child(0)
    lab.ledger.set_depths(100)
    lab.take([late(f"{n}") for n in range(6)])
    lab.ledger.deal()
    begin(port)
    assert (lab.ledger.unstarted(), lab.ledger.busy()) == (5, 6)
    assert lab.ledger.recall(0) == 5
    assert (lab.ledger.unstarted(), lab.ledger.load(0)[0], lab.ledger.pending) == (0, 0, 5)
    lab.ledger.collect()
    assert lab.ledger.busy() == 1
    end(port)
    lab.ledger.collect()
    assert (lab.ledger.idle(), lab.ledger.busy()) == (1, 0)
    assert lab.ledger.started == 1


def test_the_pace_is_that_of_tasks(lab: Lab) -> None:
    """Passing over what was taken back takes no time, and would make tasks look short."""
    port = lab.open_child(0)
    lab.ledger.set_depths(100)
    lab.take([late(f"{n}") for n in range(6)])
    lab.ledger.deal()
    begin(port)
    lab.ledger.recall(0)
    end(port)
    assert port.wait(0.0) == 1
    assert not port.start()
    assert lab.ledger.pace()[0] == 1


# ---------------------------------------------------------------------------- children that go


def test_a_dead_childs_results_count_also_uncollected(lab: Lab) -> None:
    port = lab.open_child(0)
    lab.ledger.set_depths(10)
    lab.take([late("a"), late("b"), late("c"), late("d")])
    lab.ledger.deal()
    begin(port)
    end(port, RESULT)
    begin(port)
    port.outcome(_core.REQUEUE, 0, b"again")
    running = begin(port)
    [victim] = lab.ledger.bury(0)
    entry, kind, task, flags, payload, _began = victim
    assert (kind, task, flags, payload) == (_core.TASK, LATE_TASK, _core.LATE, running)
    assert lab.ledger.where(entry) == (0, 1, 2)
    assert lab.ledger.pending == 1
    [(requeued, message)] = lab.ledger.collect()
    assert (lab.ledger.where(requeued), message) == ((0, 1, 1), b"again")
    lab.ledger.requeue(requeued, message)
    lab.flush()
    assert sorted(lab.broker.told) == [(1, 0), (1, 1)]
    assert len(lab.broker.results) == 1
    assert lab.broker.queues == {b"queue": [b"again"]}
    assert lab.ledger.bury(0) == []


def test_nothing_is_dealt_to_a_child_that_has_been_dismissed(lab: Lab) -> None:
    port = lab.open_child(0)
    assert lab.ledger.dismiss(0) == 0
    assert port.stopping
    lab.take([late("a")])
    assert lab.ledger.deal() == 1
    lab.open_child(1)
    assert lab.ledger.deal() == 0


def test_a_slot_is_reused_only_when_nothing_of_it_is_needed(lab: Lab) -> None:
    port = lab.open_child(0)
    lab.take([early("a"), late("b")])
    lab.ledger.deal()
    begin(port)
    port.finish()
    lab.ledger.bury(0)
    assert not lab.ledger.reusable(0)
    with pytest.raises(ValueError, match="still needed"):
        lab.ledger.open_child(0)
    lab.flush()
    assert lab.ledger.reusable(0)
    lab.open_child(0)
    with pytest.raises(ValueError, match="still needed"):
        lab.ledger.open_child(0)


# ---------------------------------------------------------------------------- settling


def test_a_late_message_waits_for_a_result_that_was_stored_in_the_middle(tmp_path: Path) -> None:
    """Where results go to another server, the acknowledgement must not overtake them."""
    lab = Lab(tmp_path, separate=True)
    port = lab.open_child(0)
    lab.take([late("a")])
    lab.ledger.deal()
    begin(port)
    port.store(1, RESULT)
    end(port)
    lab.ledger.collect()
    assert lab.ledger.settled == 0
    assert lab.ledger.flush(STAMP) is None
    flying = lab.ledger.flush_results()
    assert flying is not None
    assert lab.ledger.settled == 0
    lab.ledger.confirm_results()
    assert lab.ledger.settled == 1
    lab.close()


def test_no_transaction_with_results_grows_beyond_what_a_server_takes(tmp_path: Path) -> None:
    """Redis drops who sends it 1 GB in one."""
    lab = Lab(tmp_path, separate=True)
    port = lab.open_child(0)
    large = RESULT[:-3] + b"x" * (40 << 20)
    lab.take([late(str(n)) for n in range(3)])
    for _ in range(3):
        lab.ledger.set_depths(5)
        lab.ledger.deal()
        begin(port)
        port.outcome(_core.ACK, 2, large)
        lab.ledger.collect()
    parts = lab.ledger.flush_results()
    assert parts is not None
    assert [(len(data), commands) for data, commands in parts] == [(2 * len(large), 4), (len(large), 2)]
    assert b"".join(data for data, _ in parts) == large * 3
    assert lab.ledger.settled == 0
    lab.ledger.confirm_results()
    assert lab.ledger.settled == 3
    assert lab.ledger.flush_results() is None
    lab.close()


@pytest.mark.parametrize("sent", ["flying", "stored"])
def test_only_its_own_results_hold_up_a_message(tmp_path: Path, sent: str) -> None:
    lab = Lab(tmp_path, separate=True)
    port = lab.open_child(0)
    lab.ledger.set_depths(5)
    lab.take([late("a"), late("b")])
    lab.ledger.deal()
    begin(port)
    port.store(1, RESULT)
    lab.ledger.collect()
    lab.ledger.flush_results()
    if sent == "stored":
        lab.ledger.confirm_results()
    end(port)
    lab.ledger.collect()
    assert lab.ledger.settled == (1 if sent == "stored" else 0)
    begin(port)
    end(port)  # nothing to store: waits for nobody
    lab.ledger.collect()
    assert lab.ledger.settled == (2 if sent == "stored" else 1)
    lab.ledger.confirm_results()
    assert lab.ledger.settled == 2
    lab.close()


def test_what_has_arrived_of_a_claim_is_told_before_the_rest_arrives(lab: Lab) -> None:
    """A batch whose messages so far are all settled is not over: later ones must not be forgotten."""
    port = lab.open_child(0)
    batch, number = lab.claim([early("a"), early("b"), early("c")])
    for name in ("a", "b"):
        lab.ledger.take_one(batch, early(name))
        lab.ledger.deal()
        begin(port)
        port.finish()
        lab.ledger.collect()
        assert not lab.flush(linger_ns=10**15)
    assert lab.ledger.untold
    assert lab.flush()
    assert lab.broker.told == [(number, 0), (number, 1)]
    lab.ledger.take_one(batch, early("c"))
    lab.ledger.close_batch(batch)
    lab.ledger.deal()
    begin(port)
    port.finish()
    lab.ledger.collect()
    assert lab.flush()
    assert (lab.broker.claims, lab.ledger.size) == ({}, 0)


def test_a_ring_full_of_large_messages_asks_for_a_flush_before_its_child_waits(lab: Lab) -> None:
    port = lab.open_child(0)
    lab.ledger.set_depths(100)
    lab.take([early(str(n), size=300) for n in range(8)])
    waiting = lab.ledger.deal()
    assert 0 < waiting < 8
    seen = [lab.ledger.cramped]
    for _ in range(8 - waiting):
        begin(port)
        port.finish()
        lab.ledger.collect()
        seen.append(lab.ledger.cramped)
    assert (seen[0], seen[-1]) == (False, True)  # as long as its child has enough before it, nothing is asked for
    assert not lab.flush(linger_ns=10**15)  # its batch is not over
    assert lab.flush()
    assert 0 <= lab.ledger.deal() < waiting


def test_verdicts_keep_their_place_when_others_are_withdrawn(lab: Lab) -> None:
    for name in ("a", "b", "c", "d"):
        lab.take([b"odd " + name.encode()])
    entries = [entry for entry, _raw in lab.ledger.take_odd()]
    kinds = [_core.TASK, _core.VERDICT, _core.TASK, _core.VERDICT]
    for entry, kind in zip(entries, kinds, strict=True):
        lab.ledger.place(entry, b"%d" % entry, kind=kind, flags=_core.LATE)
    assert [entry for entry, *_place in lab.ledger.withdraw(1)] == [entries[0]]
    assert [entry for entry, *_place in lab.ledger.withdraw(9)] == [entries[2]]
    assert lab.ledger.pending == 2
    port = lab.open_child(0)
    lab.ledger.set_depths(9)
    lab.ledger.deal()
    assert begin(port) == b"%d" % entries[1]
    end(port)
    assert begin(port) == b"%d" % entries[3]


def test_what_has_been_acknowledged_cannot_be_requeued(lab: Lab) -> None:
    """A verdict on an early acknowledged task has no message on the broker; its end is its end."""
    port = lab.open_child(0)
    lab.take([early("a")])
    lab.ledger.deal()
    begin(port)
    [victim] = lab.ledger.bury(0)
    lab.ledger.place(victim[0], b"verdict", kind=_core.VERDICT, flags=_core.LATE)
    port = lab.open_child(1)
    lab.ledger.deal()
    begin(port)
    port.outcome(_core.REQUEUE, 0, b"again")
    assert lab.ledger.collect() == []
    lab.flush()
    assert lab.ledger.size == 0


# ---------------------------------------------------------------------------- names


@settings(max_examples=60)
@given(st.lists(st.text("ab.", min_size=1, max_size=6), unique=True, max_size=60), st.integers(0, 60), st.data())
def test_every_task_is_found_by_its_name(names: list[str], more: int, data: st.DataObject) -> None:
    """Short names of few letters: many meet in one place of the table."""
    names = list(dict.fromkeys([*names, *(f"module.task{n}" for n in range(more))]))
    lab = Lab(Path("/nonexistent"), slots=1, task_bytes=1 << 18)
    ledger = lab.ledger = _core.Ledger(
        lab.segment, [n.encode() for n in names], [True] * len(names), [(0.0, 0.0)] * len(names)
    )
    ledger.add_key(b"queue", b"claim:", b"index")
    lab.open_child(0)
    ledger.set_depths(1000)
    wanted = data.draw(st.lists(st.sampled_from([*names, "a", "unknown", "module.task"]), max_size=30))
    lab.take([envelope(name) for name in wanted])
    ledger.deal()
    assert [frame.task for frame in lab.views[0].look()] == [names.index(name) for name in wanted if name in names]
    assert len(ledger.take_odd()) == sum(name not in names for name in wanted)
    lab.close()


# ---------------------------------------------------------------------------- side files


def test_side_files_are_gone_when_they_are_not_needed(lab: Lab) -> None:
    port = lab.open_child(0)
    lab.take([b"huge"])
    [(entry, _raw)] = lab.ledger.take_odd()
    lab.ledger.place(entry, lab.side_file(b"y" * 10_000), flags=_core.LATE | _core.SIDE)
    lab.ledger.deal()
    assert begin(port) == b"y" * 10_000
    port.outcome(_core.ACK, 1000, RESULT * 1000)
    lab.ledger.collect()
    lab.flush()
    assert len(lab.broker.results) == 1000
    assert os.listdir(lab.folder) == []


def test_a_side_file_that_somebody_removed_costs_its_content_only(lab: Lab) -> None:
    port = lab.open_child(0)
    lab.take([late("a")])
    lab.ledger.deal()
    begin(port)
    end(port, b"z" * 3000)
    [file] = lab.folder.iterdir()
    file.unlink()
    assert lab.ledger.collect() == []
    assert lab.ledger.missing == [str(file).encode()]
    lab.flush()
    assert (lab.ledger.size, lab.broker.results) == (0, [])


# ---------------------------------------------------------------------------- sleep


def test_a_sleeping_engine_is_woken_for_what_it_wants(lab: Lab) -> None:
    """Whatever a child does before the engine sleeps, the engine sees; after, the child wakes it."""

    def woken() -> bool:
        try:
            return os.eventfd_read(lab.eventfd) > 0
        except BlockingIOError:
            return False

    port = lab.open_child(0)
    assert lab.ledger.sleep(only_hungry=True), "a child has become ready"
    lab.ledger.awake()
    lab.ledger.collect()
    lab.ledger.set_depths(5)
    lab.take([late("a"), late("b"), late("c")])
    lab.ledger.deal()
    assert not lab.ledger.sleep(only_hungry=False)
    begin(port)
    end(port)
    assert woken()
    assert lab.ledger.sleep(only_hungry=False), "there is a result"
    lab.ledger.collect()
    assert not lab.ledger.sleep(only_hungry=True)
    begin(port)
    end(port)
    assert not woken(), "it has still something to do"
    begin(port)
    end(port)
    assert not woken()
    assert port.wait(0.0) == 0
    assert woken(), "it has nothing left"
    lab.ledger.awake()
    assert lab.ledger.sleep(only_hungry=True), "it has had nothing left since before"
    lab.ledger.collect()
    assert not lab.ledger.sleep(only_hungry=True)
    port.retire()
    assert woken()
    assert lab.ledger.sleep(only_hungry=True)


def test_an_engine_that_waits_for_a_flush_makes_room_for_results(lab: Lab) -> None:
    port = lab.open_child(0)
    lab.ledger.collect()
    assert not lab.ledger.sleep(only_hungry=True)
    lab.ledger.awake()
    port.store(1, b"x" * 1900)
    port.store(1, b"x" * 1900)
    assert lab.ledger.sleep(only_hungry=True), "more than half of the ring is full"


# ---------------------------------------------------------------------------- after a crash


def test_the_started_are_known_whatever_the_engine_was_doing_when_it_died(lab: Lab) -> None:
    """`acked_head` and `acked_count` are two words: one of them may be old. Only the position matters."""
    port = lab.open_child(0)
    lab.ledger.set_depths(10)
    lab.take([early(f"{n}") for n in range(6)])
    lab.ledger.deal()
    for _ in range(3):
        begin(port)
        port.finish()
    lab.ledger.collect()
    before = bytes(lab.memory)
    lab.flush()
    begin(port)
    assert lab.segment.started_unconfirmed() == [(0, 1, 3)]
    words = lab.views[0].words
    lab.memory[words + 16 : words + 24] = before[words + 16 : words + 24]  # acked_head as it was
    assert lab.segment.started_unconfirmed() == [(0, 1, n) for n in range(4)]


# ---------------------------------------------------------------------------- waiting


TIMES = st.lists(st.one_of(st.floats(allow_nan=False), st.integers(0, 5)), max_size=200)


@settings(max_examples=200)
@given(TIMES, st.lists(st.integers(1, 7), min_size=200, max_size=200), st.integers(0, 200))
def test_waiting_entries_come_back_in_order(times: list[float], limits: list[int], parked_first: int) -> None:
    """Sorted by time; of the same time, what was parked first. Some are parked while others are taken."""
    lab = Lab(Path("/nonexistent"))
    batch, _number = lab.claim([b"odd"] * len(times))
    for _ in times:
        lab.ledger.take_one(batch, b"odd")
    waiting: list[tuple[float, int]] = []
    later = [(at, entry) for at, (entry, _raw) in zip(times, lab.ledger.take_odd(), strict=True)]
    for at, entry in later[:parked_first]:
        lab.ledger.park(entry, at)
        waiting.append((at, entry))
    del later[:parked_first]
    for limit in limits:
        if later:
            lab.ledger.park(later[0][1], later[0][0])
            waiting.append(later.pop(0))
        waiting.sort(key=lambda pair: pair[0])
        assert lab.ledger.next_due() == (waiting[0][0] if waiting else None)
        found = [entry for entry, _claim, _at in lab.ledger.take_due(3.0, limit)]
        assert found == [entry for at, entry in waiting if at <= 3.0][:limit]
        waiting = [pair for pair in waiting if pair[1] not in found]
    assert lab.ledger.waiting == len(waiting)
    lab.close()


# ---------------------------------------------------------------------------- wrong use is refused


def test_wrong_use_is_refused(lab: Lab) -> None:
    ledger = lab.ledger
    for call in (ledger.recall, ledger.bury, ledger.dismiss, ledger.load, ledger.running, ledger.open_child):
        with pytest.raises(IndexError, match="slot 2 of 2"):
            call(2)
    assert (ledger.recall(0), ledger.bury(0), ledger.dismiss(0), ledger.running(0)) == (0, [], 0, None)
    with pytest.raises(IndexError, match="no queue key"):
        ledger.open_batch(1, 1)
    for batch_call in (ledger.close_batch, ledger.batch_size):
        with pytest.raises(IndexError, match="no batch"):
            batch_call(0)
    lab.take([b"odd", b"odd"])
    with pytest.raises(IndexError, match="no batch"):
        ledger.take_one(7, b"odd")
    with pytest.raises(ValueError, match="more than was asked for"):
        ledger.take_one(0, b"odd")
    [(first, _), (second, _)] = ledger.take_odd()
    with pytest.raises(IndexError, match="no entry"):
        ledger.quit(99)
    with pytest.raises(ValueError, match="too large"):
        ledger.place(first, b"x" * 5000)
    with pytest.raises(ValueError, match="neither TASK nor VERDICT"):
        ledger.place(first, b"x", kind=9)
    with pytest.raises(ValueError, match="no time"):
        ledger.park(first, float("nan"))
    ledger.park(first, 5.0)
    ledger.settle(second)
    for entry in (first, second):
        for end_it in (ledger.settle, ledger.quit):
            with pytest.raises(ValueError, match="not in the caller's hands"):
                end_it(entry)
        with pytest.raises(ValueError, match="nothing to give back"):
            ledger.requeue(entry, b"")
        with pytest.raises(ValueError, match="not in the caller's hands"):
            ledger.place(entry, b"")
        with pytest.raises(ValueError, match="not in the caller's hands"):
            ledger.park(entry, 1.0)


def test_a_port_without_a_task_says_so(lab: Lab) -> None:
    port = lab.open_child(0)
    for call in (port.start, port.finish, port.payload):
        with pytest.raises(RuntimeError, match="no task"):
            call()
    with pytest.raises(RuntimeError, match="no task"):
        port.outcome(_core.ACK, 0, b"")
    for name in ("kind", "flags", "task", "expires", "limits"):
        with pytest.raises(RuntimeError, match="no task"):
            getattr(port, name)
