"""Death at every single step: of a child that takes and answers, of an engine that deals and settles.

A debug build counts steps between any two stores that another process can see, and can die at each of them.
"""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fastq import _core
from tests.core.forked import fork
from tests.core.ledger_lab import FAST, STAMP, TASKS, Broker, Lab
from tests.core.task_ring import envelope

pytestmark = [
    pytest.mark.skipif(not _core.DEBUG, reason="only a debug build can die at a step: make debug-core"),
    pytest.mark.skipif(not FAST, reason="the scenes are of plain messages; FASTQ_FAST=0 knows none"),
]


class Log:
    """Flags in shared memory: what a process was about to do, and what it had done, when it died."""

    def __init__(self, size: int = 256) -> None:
        self._memory = mmap.mmap(-1, size)

    def __setitem__(self, index: int, value: int) -> None:
        self._memory[index] = value

    def __getitem__(self, index: int) -> int:
        return self._memory[index]

    def noted(self, value: int) -> set[int]:
        """Where at least this has been noted."""
        return {index for index in range(len(self._memory)) if self._memory[index] >= value}


def dies_at(step: int, body: Callable[[], object]) -> bool:
    """Run `body` in a process that is killed at this step; False if it did not get that far."""

    def burn() -> None:
        _core.set_fuse(step)
        body()

    _pid, status = os.waitpid(fork(burn), 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), f"step {step} ended with {code}"
    return code != 0


# ---------------------------------------------------------------------------- a child

#: What the child does with each frame: the name of the task, then what it sends.
SCRIPT = ["early none", "late ack", "late store", "early result", "late long", "late requeue", "late side", "late long"]


def message(number: int) -> bytes:
    task = TASKS[0] if SCRIPT[number % len(SCRIPT)].startswith("early") else TASKS[1]
    return envelope(task.decode(), task_id=f"id-{number:03d}")


def put(number: int, size: int) -> bytes:
    value = b"%03d" % number + b"r" * size
    return b"*2\r\n$3\r\nPUT\r\n$%d\r\n%b\r\n" % (len(value), value)


def act(port: _core.ChildPort, number: int) -> None:
    """End the frame in the way that the script says."""
    how = SCRIPT[number % len(SCRIPT)].split()[1]
    if how == "none":
        port.finish()
        return
    if how == "store":
        port.store(1, put(number, 10))
    if how == "requeue":
        port.outcome(_core.REQUEUE, 0, b"again %03d" % number)
    else:
        data = {"ack": b"", "store": b""}.get(how, put(number, {"long": 900, "side": 5000}.get(how, 20)))
        port.outcome(_core.ACK, 1 if data else 0, data)


def child(lab: Lab, port: _core.ChildPort, log: Log) -> None:
    """Everything there is to do."""
    number_of = {message(number): number for number in range(3 * len(SCRIPT))}
    while port.wait(0.0) == 1:
        if not port.start():
            continue
        number = number_of[port.payload()]
        log[number] = 1
        act(port, number)
        log[number] = 2


class Scene:
    """Frames dealt to a child, some of them taken back and dealt again; rings that are about to go round."""

    def __init__(self, folder: Path) -> None:
        self.lab = Lab(folder, slots=2, task_bytes=16384, result_bytes=8192)
        self.ledger, self.log = self.lab.ledger, Log()
        self.port = self.lab.open_child(0)
        self.ledger.set_depths(100)
        self._go_round()
        self.messages = [message(number) for number in range(len(SCRIPT))]
        self.lab.take(self.messages)
        self.ledger.deal()
        self.ledger.recall(0)
        self.ledger.set_depths(7)
        self.ledger.deal()

    def _go_round(self) -> None:
        # Up to a place in both rings from which the script needs a pad.
        self.lab.take([envelope(TASKS[1].decode(), ("x" * 300,)) for _ in range(3)])
        self.ledger.deal()
        for size in (2000, 2000, 1000):
            assert self.port.wait(0.0) == 1
            assert self.port.start()
            self.port.outcome(_core.ACK, 1, put(999, size))
            self.ledger.collect()
            self.lab.flush()
        self.lab.broker = Broker()

    def judge(self, *, collect_first: bool) -> None:
        """The child is dead: whatever it did, the engine knows exactly that."""
        requeued = self.ledger.collect() if collect_first else []
        began, ended = self.log.noted(1), self.log.noted(2)
        dealt = len(self.messages) - self.ledger.pending
        victim = next(iter(self.ledger.bury(0)), None)
        requeued += self.ledger.collect()
        for entry, data in requeued:
            assert data == b"again " + data[-3:]
            self.ledger.requeue(entry, data)
        finished = len(self.messages) - self.ledger.pending - (victim is not None)
        assert finished <= dealt
        assert ended == set(range(len(ended)))
        assert len(ended) <= finished <= len(began) <= len(ended) + 1
        if victim is not None:
            assert victim[4] == self.messages[finished], "the wrong one was returned"
        self._check_results(finished, began=len(began))
        assert {data for _entry, data in requeued} == {
            b"again %03d" % n for n in range(finished) if SCRIPT[n].endswith("requeue")
        }
        self._finish(victim)

    def _check_results(self, finished: int, *, began: int) -> None:
        self.lab.flush()
        numbers = [int(words[1][:3]) for words in self.lab.broker.results]
        assert all(words[1][3:] == b"r" * (len(words[1]) - 3) for words in self.lab.broker.results)
        stored = [n for n in range(finished) if SCRIPT[n].split()[1] in ("store", "result", "long", "side")]
        # A store in the middle of the task that was running may have come as well; its outcome has not.
        in_the_middle = finished < began and SCRIPT[finished].endswith("store")
        assert numbers == stored or (in_the_middle and numbers == [*stored, finished])

    def _finish(self, victim: tuple[int, int, int, int, bytes, int] | None) -> None:
        """Another child does the rest; then every position has been told once."""
        if victim is not None and self.ledger.where(victim[0]) is None:
            self.ledger.settle(victim[0])
        elif victim is not None:
            self.ledger.place(victim[0], victim[4], flags=_core.LATE, first=True)
        port = self.lab.open_child(1)
        self.ledger.set_depths(100)
        self.ledger.deal()
        while port.wait(0.0) == 1:
            if port.start():
                port.outcome(_core.ACK, 0, b"")
        self.ledger.collect()
        self.lab.flush()
        assert self.lab.broker.claims == {}
        assert sorted(place for _number, place in self.lab.broker.told) == list(range(len(SCRIPT)))
        assert (self.ledger.size, self.ledger.busy(), self.ledger.reusable(0)) == (0, 0, True)
        # A file that was written and not sent stays until the segment is removed, with everything of its name.
        assert all(path.name.startswith("side.r0.") for path in self.lab.folder.iterdir())
        self.lab.close()


@pytest.mark.parametrize("collect_first", [True, False])
def test_a_child_dies_at_every_step(tmp_path: Path, collect_first: bool) -> None:
    for step in range(1, 10_000):
        scene = Scene(tmp_path)
        died = dies_at(step, lambda scene=scene: child(scene.lab, scene.port, scene.log))  # type: ignore[misc]
        scene.judge(collect_first=collect_first)
        for path in tmp_path.iterdir():
            path.unlink()
        if not died:
            assert step > 60, "there are too few steps"
            return


# ---------------------------------------------------------------------------- an engine


class Engine:
    """An engine and its child in one process, which can die anywhere in it."""

    def __init__(self, folder: Path) -> None:
        self.lab, self.log = Lab(folder, slots=1, task_bytes=4096), Log()
        self.count = 0

    def run(self) -> None:
        """Deal, start, settle, take back, around the ring more than once."""
        port = self.lab.open_child(0)
        self.lab.ledger.set_depths(3)
        for turn in range(12):
            self._take(3)
            if turn == 2:
                self.lab.ledger.recall(0)
                self.lab.ledger.deal()
            for _ in range(2):
                self._start(port)
            self.lab.ledger.collect()
            if turn % 2:
                self._flush()
        self._flush()

    def _take(self, count: int) -> None:
        messages = [envelope("t.early", task_id=f"{self.count + n:03d}") for n in range(count)]
        batch, number = self.lab.claim(messages)
        assert number == self.count // 3 + 1
        for data in messages:
            self.lab.ledger.take_one(batch, data)
        self.lab.ledger.close_batch(batch)
        self.lab.ledger.deal()
        self.count += count

    def _start(self, port: _core.ChildPort) -> None:
        while port.wait(0.0) == 1:
            number = _number_of(port.payload())
            self.log[number] = max(self.log[number], 1)
            if port.start():
                self.log[number] = 2
                port.finish()
                return

    def _flush(self) -> None:
        found = self.lab.ledger.flush(STAMP)
        if found is None:
            return
        before = len(self.lab.broker.told)
        self.lab.broker.apply(*found)
        for number, place in self.lab.broker.told[before:]:
            self.log[3 * (number - 1) + place] = 3
        self.lab.ledger.confirm()

    def check(self) -> None:
        """Whoever restores now knows what had been started, of what the broker still holds."""
        found = {3 * (number - 1) + place for _key, number, place in self.lab.segment.started_unconfirmed()}
        assert self.log.noted(2) - self.log.noted(3) <= found, "started, and would be run again"
        assert found <= self.log.noted(1), "not started, and would be dropped"


def _number_of(payload: bytes) -> int:
    found = _core.scan(payload)
    return int(found[1]) if found is not None else int(payload.split(b'"id": "')[1][:3])


def test_an_engine_dies_at_every_step(tmp_path: Path) -> None:
    for step in range(1, 10_000):
        engine = Engine(tmp_path)
        died = dies_at(step, engine.run)
        engine.check()
        engine.lab.close()
        if not died:
            assert engine.log.noted(3), "nothing was settled"
            assert step > 250, "there are too few steps"
            return


def test_the_fuse_kills_at_the_step_that_was_said(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    port = lab.open_child(0)
    assert dies_at(1, lambda: port.store(0, b"x"))
    assert not dies_at(1000, lambda: port.store(0, b"x"))
    lab.close()
