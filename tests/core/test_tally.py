"""Counters in shared memory: what children have done is counted once, by task and queue, whatever becomes of them."""

from __future__ import annotations

import pytest

from fastq import _core
from tests.core.task_ring import TaskRing, envelope

NAMES = [b"t.add", b"t.mul"]


class Bench:
    """A ring with a board, and one child after the other in its slot."""

    def __init__(self) -> None:
        self.ring = TaskRing()
        self.board = _core.Board(self.ring.segment)
        self.board.put("slots_used", 1)
        self.board.name_tasks(NAMES)
        self.port = self.child()

    def child(self) -> _core.ChildPort:
        port = self.ring.port()
        port.know_tasks(NAMES)
        return port

    def run(self, *, task: int, end: int | None = None, kind: int = _core.TASK) -> None:
        self.ring.put(envelope(), task=task, kind=kind)
        assert self.port.wait(0.0) == 1
        assert self.port.start()
        if end is not None:
            self.port.note_end(end)
        self.port.finish()

    def ends(self, task: bytes) -> list[int]:
        return self.board.runs(self.board.tasks().index(task))[0]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_each_end_is_counted_by_task(bench: Bench) -> None:
    bench.run(task=0)
    for end in (_core.FAILED, _core.RETRIED, _core.IGNORED, _core.REJECTED, _core.DISCARDED, _core.FAILED):
        bench.run(task=1, end=end)
    assert bench.ends(b"t.add") == [1, 0, 0, 0, 0, 0]
    assert bench.ends(b"t.mul") == [0, 2, 1, 1, 1, 1]


def test_what_was_not_run_has_no_run_time(bench: Bench) -> None:
    bench.run(task=0, end=_core.DISCARDED)
    _ends, spent_ns, steps = bench.board.runs(1)
    assert (spent_ns, sum(steps)) == (0, 0)
    bench.run(task=0)
    assert sum(bench.board.runs(1)[2]) == 1


def test_an_end_that_was_noted_is_forgotten_with_its_task(bench: Bench) -> None:
    bench.run(task=0, end=_core.FAILED)
    bench.run(task=0)
    assert bench.ends(b"t.add") == [1, 1, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="6"):
        bench.port.note_end(6)


def test_verdicts_are_not_executions(bench: Bench) -> None:
    bench.run(task=0, kind=_core.VERDICT)
    assert bench.ends(b"t.add") == [0] * 6
    assert bench.board.waits(0)[0] == 0


def test_unknown_tasks_share_a_row(bench: Bench) -> None:
    bench.run(task=_core.NO_TASK)
    bench.run(task=77)
    assert bench.ends(b"_other")[0] == 2


def test_the_next_child_of_a_slot_goes_on_counting(bench: Bench) -> None:
    bench.run(task=0)
    bench.ring.segment.clear_slot(0)
    bench.ring.head = bench.ring.count = 0
    bench.port = bench.child()
    bench.run(task=0)
    assert bench.ends(b"t.add")[0] == 2


def test_rows_are_bounded_and_names_whole(bench: Bench) -> None:
    bench.board.name_tasks([b"x" * 300, *(b"many.%d" % n for n in range(500))])
    names = bench.board.tasks()
    assert len(names) == 201
    assert names[0] == b"_other"
    assert b"x" * 255 not in names
    bench.board.name_tasks([b"many.1"])
    assert bench.board.tasks() == names


def test_figures_by_name(bench: Bench) -> None:
    bench.board.add("forks")
    bench.board.add("forks", 2)
    bench.board.put("state", 1)
    assert (bench.board.figure("forks"), bench.board.figures()["state"]) == (3, 1)
    with pytest.raises(KeyError):
        bench.board.add("spoons")


def test_what_runs_can_be_read_from_outside(bench: Bench) -> None:
    assert bench.board.running(0) is None
    bench.ring.put(envelope(task_id="id-1"), task=1)
    bench.port.wait(0.0)
    bench.port.start()
    found = bench.board.running(0)
    assert found is not None
    assert (found[0], b"id-1" in found[1]) == (1, True)
    bench.port.finish()
    assert bench.board.running(0) is None
