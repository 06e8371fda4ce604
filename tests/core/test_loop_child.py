"""A child with an event loop, forked, at the other end of a ledger: what it starts, cancels, survives and leaves."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastq import _core
from fastq.child.goodbye import EXIT_RECYCLE
from fastq.child.loop import run_loop
from fastq.child.main import LoopOptions
from fastq.program import FlightDoor, Verdict
from tests.core.forked import fork
from tests.core.ledger_lab import Lab
from tests.eventually import eventually

mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="nobody's")


class Passenger:
    """Does what its payload says: words, the first of them its name."""

    lingers = False

    def __init__(self, door: FlightDoor) -> None:
        self.door = door
        self.name, self.what, *self.rest = door.payload().decode().split()

    async def run(self) -> None:
        assert mine.get() == "nobody's"
        mine.set(self.name)
        await getattr(self, self.what)(*self.rest)
        if not self.door.over:
            self.answer(f"done,{mine.get()}")

    def answer(self, text: str) -> None:
        self.door.outcome(_core.ACK, 1, b"*2\r\n$3\r\nPUT\r\n$%d\r\n%b\r\n" % (len(said := self.said(text)), said))

    def said(self, text: str) -> bytes:
        return f"{self.name},{text}".encode()

    async def nap(self, seconds: str) -> None:
        await asyncio.sleep(float(seconds))

    async def stubborn(self, seconds: str) -> None:
        until = time.monotonic() + float(seconds)
        while time.monotonic() < until:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    async def block(self, seconds: str) -> None:
        time.sleep(float(seconds))

    async def give_up(self) -> None:
        raise asyncio.CancelledError

    def soften(self) -> bool:
        self.answer("softened")
        return True

    def condemn(self, verdict: Verdict) -> None:
        self.answer(verdict.kind)


class Program:
    def fly(self, door: FlightDoor) -> Passenger | None:
        return Passenger(door)


class Boat:
    """One such child, and the engine's end of it."""

    def __init__(self, folder: Path, *, limit: int = 60, max_tasks: int | None = None) -> None:
        self.lab = Lab(folder, slots=2, task_bytes=1 << 16, result_bytes=1 << 16)
        self.ledger = self.lab.ledger
        self.ledger.open_child(0, limit)
        waker = os.eventfd(0, os.EFD_NONBLOCK)
        self.status: int | None = None
        self.pid = fork(lambda: self._be(limit, waker, max_tasks))
        self.ledger.set_waker(0, waker)
        self.ledger.set_depths(5)
        self._waker = waker
        eventually(lambda: self.lab.segment.state(0) == _core.READY)

    def _be(self, limit: int, waker: int, max_tasks: int | None) -> None:
        port = _core.ChildPort(self.lab.segment, 0, self.lab.eventfd, str(self.lab.folder / "side"))
        program: object = Program()
        options = LoopOptions(limit=limit, waker=waker)
        os._exit(run_loop(program, port, options, max_tasks=max_tasks))  # type: ignore[arg-type]

    def give(self, *payloads: str, late: bool = True, soft_s: float = 0.0, hard_s: float = 0.0) -> None:
        self.lab.take([b"odd"] * len(payloads))
        for (entry, _raw), payload in zip(self.ledger.take_odd(), payloads, strict=True):
            flags = _core.ODD | (_core.LATE if late else 0)
            self.ledger.place(entry, payload.encode(), flags=flags, soft_s=soft_s, hard_s=hard_s)
        self.ledger.deal()

    def told(self) -> list[str]:
        """What tasks have said so far, in order."""
        self.ledger.collect()
        self.ledger.deal()
        self.lab.flush()
        return [words[1].decode() for words in self.lab.broker.results]

    def ended(self) -> int | None:
        """The exit code, if it is gone."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status

    def close(self) -> None:
        if self.ended() is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._waker)
        self.lab.close()


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Boat]:
    boat = Boat(tmp_path)
    yield boat
    boat.close()


def test_tasks_overtake_each_other_each_in_its_own_context(boat: Boat) -> None:
    boat.give("slow nap 0.3", "a nap 0.01", "b nap 0.02")
    eventually(lambda: boat.told() == ["a,done,a", "b,done,b"])
    boat.give(*[f"n{n} nap 0.001" for n in range(200)])
    eventually(lambda: len(boat.told()) == 203)
    assert set(boat.told()) >= {f"n{n},done,n{n}" for n in range(200)} | {"slow,done,slow"}
    assert (boat.ledger.busy(), boat.ledger.size, boat.lab.broker.claims) == (0, 0, {})


def test_a_hard_limit_ends_one_task_and_no_other(boat: Boat) -> None:
    boat.give("other nap 0.4")
    boat.give("long nap 60", hard_s=0.1)
    eventually(lambda: boat.told() == ["long,timeout"])
    eventually(lambda: boat.told() == ["long,timeout", "other,done,other"])
    assert boat.ended() is None


def test_a_soft_limit_is_the_tasks_own_affair(boat: Boat) -> None:
    boat.give("long nap 60", soft_s=0.05)
    eventually(lambda: boat.told() == ["long,softened"])


def test_a_wish_ends_the_task_that_it_names(boat: Boat) -> None:
    boat.give("one nap 0.5", "other nap 60")
    eventually(lambda: len(boat.ledger.all_running(0)) == 2)
    boat.told()
    assert boat.ledger.wish(0, boat.ledger.all_running(0)[1][0], False)
    eventually(lambda: boat.told() == ["other,terminated"])
    eventually(lambda: boat.told() == ["other,terminated", "one,done,one"])


def test_who_is_told_to_leave_takes_nothing_more_and_ends_what_is_in_flight(boat: Boat) -> None:
    boat.give("one nap 0.3", "other nap 0.2")
    eventually(lambda: len(boat.ledger.all_running(0)) == 2)
    boat.told()
    boat.ledger.dismiss(0)
    eventually(lambda: boat.ended() == 0)
    assert sorted(boat.told()) == ["one,done,one", "other,done,other"]
    assert boat.ledger.bury(0) == []


def test_a_child_leaves_after_its_number_of_tasks_and_starts_no_more(tmp_path: Path) -> None:
    boat = Boat(tmp_path, max_tasks=5)
    boat.give(*[f"n{n} nap 0.05" for n in range(8)])
    eventually(lambda: boat.ended() == EXIT_RECYCLE)
    assert len(boat.told()) == 5
    assert boat.ledger.bury(0) == []
    assert boat.ledger.pending == 3
    boat.close()


def test_a_task_that_minds_no_cancelling_is_left_behind_with_its_process(boat: Boat) -> None:
    boat.give("other nap 1.5")
    boat.give("deaf stubborn 60", hard_s=0.1)
    eventually(lambda: boat.told() == ["deaf,timeout"])
    eventually(lambda: boat.lab.segment.state(0) == _core.RETIRING)
    assert boat.ended() is None  # the other one is not to suffer
    eventually(lambda: boat.ended() == 0)
    assert boat.told() == ["deaf,timeout", "other,done,other"]


def test_a_task_that_cancels_itself_is_not_forgotten(boat: Boat) -> None:
    boat.give("quitter give_up")
    eventually(lambda: boat.told() == ["quitter,lost"])


def test_whatever_was_in_flight_when_a_child_was_killed_is_returned(boat: Boat) -> None:
    boat.give(*[f"l{n} nap 60" for n in range(25)])
    boat.give(*[f"e{n} nap 60" for n in range(25)], late=False)
    eventually(lambda: len(boat.ledger.all_running(0)) == 50)
    boat.told()
    os.kill(boat.pid, signal.SIGKILL)
    eventually(lambda: boat.ended() == -signal.SIGKILL)
    assert len(boat.lab.segment.suspects()) == 25
    found = boat.ledger.bury(0)
    assert [payload.split()[0] for *_, payload, _began in found] == [
        f"{kind}{n}".encode() for kind in "le" for n in range(25)
    ]
    assert [boat.ledger.where(entry) is not None for entry, *_ in found] == [True] * 25 + [False] * 25


def test_an_idle_loop_is_not_woken(boat: Boat) -> None:
    boat.give("one nap 0.01")
    eventually(lambda: len(boat.told()) == 1)
    time.sleep(0.05)
    before = _switches(boat.pid)
    time.sleep(0.3)
    assert _switches(boat.pid) == before


def _switches(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0])


def test_who_looks_in_sees_how_many_are_in_flight_and_the_first_of_them(boat: Boat) -> None:
    boat.give("first nap 60", "second nap 60")
    eventually(lambda: boat.lab.segment.peek(0)["in_flight"] == 2)
    board = _core.Board(boat.lab.segment)
    found = board.oldest(0)
    assert found is not None
    assert found[:2] == (b"_other", b"")  # of no known task, and not plain to read
    assert found[2] == boat.ledger.all_running(0)[0][6]
    assert (board.running(0), board.oldest(1)) == (None, None)
