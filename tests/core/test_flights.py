"""Many tasks of one ring in flight: ends in any order, a ring that no long task holds up, death at every step."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastq import _core
from tests.core.ledger_lab import FAST, TASKS, Lab
from tests.core.task_ring import envelope
from tests.core.test_killed import Engine, Log, dies_at, put

pytestmark = pytest.mark.skipif(not FAST, reason="the scenes are of plain messages; FASTQ_FAST=0 knows none")


def early(name: str) -> bytes:
    return envelope(TASKS[0].decode(), task_id=name)


def late(name: str) -> bytes:
    return envelope(TASKS[1].decode(), task_id=name)


class Deck:
    """A ledger with one child that has an event loop."""

    def __init__(self, folder: Path, *, berths: int = 4, task_bytes: int = 16384) -> None:
        self.lab = Lab(folder, slots=2, task_bytes=task_bytes, result_bytes=8192)
        self.ledger = self.lab.ledger
        self.port = self.lab.open_child(0, berths=berths)
        self.flights = _core.Flights(self.port, berths)
        self.waker = os.eventfd(0, os.EFD_NONBLOCK)
        self.ledger.set_waker(0, self.waker)
        self.woken()

    def woken(self) -> bool:
        """Whether the loop has been woken since the last call."""
        try:
            return os.eventfd_read(self.waker) > 0
        except BlockingIOError:
            return False

    def deal(self, *messages: bytes) -> None:
        self.lab.take(list(messages))
        self.ledger.deal()

    def close(self) -> None:
        os.close(self.waker)
        self.lab.close()


@pytest.fixture
def deck(tmp_path: Path) -> Iterator[Deck]:
    deck = Deck(tmp_path)
    yield deck
    deck.close()


def test_ends_come_in_any_order(deck: Deck) -> None:
    deck.deal(late("a"), early("b"), late("c"), late("d"))
    flights = deck.flights.take()
    assert [flight.number for flight in flights] == [0, 1, 2, 3]
    assert [flight.payload() for flight in flights] == [late("a"), early("b"), late("c"), late("d")]
    for flight in (flights[2], flights[0]):
        flight.outcome(_core.ACK, 1, put(flight.number, 5))
    deck.ledger.collect()
    deck.lab.flush()
    assert sorted(deck.lab.broker.told) == [(1, 0), (1, 1), (1, 2)]  # the early one when it was started
    assert (deck.ledger.busy(), deck.ledger.finished, deck.flights.count) == (2, 2, 2)
    assert [fact[0] for fact in deck.ledger.all_running(0)] == [1, 3]
    with pytest.raises(RuntimeError, match="ended already"):
        flights[0].finish()
    for flight in (flights[3], flights[1]):
        flight.finish()
    deck.ledger.collect()
    deck.lab.flush()
    assert (deck.ledger.busy(), deck.ledger.size, deck.lab.broker.claims) == (0, 0, {})


def test_a_child_gets_as_many_as_it_may_have_in_flight_and_starts_no_more(deck: Deck) -> None:
    deck.ledger.set_depths(2)
    deck.deal(*[late(f"m{n}") for n in range(9)])
    assert (deck.ledger.unstarted(), deck.ledger.pending, deck.ledger.room()) == (6, 3, 0)
    flights = deck.flights.take()
    assert (len(flights), deck.flights.take(), deck.ledger.unstarted()) == (4, [], 2)
    flights[3].finish()
    assert [flight.number for flight in deck.flights.take()] == [4]
    deck.ledger.collect()
    assert deck.ledger.deal() == 2


@pytest.mark.parametrize("make", [early, late])
def test_a_long_task_holds_up_no_other(tmp_path: Path, make: Callable[[str], bytes]) -> None:
    deck = Deck(tmp_path, berths=3, task_bytes=8192)
    deck.deal(make("long"))
    [long] = deck.flights.take()
    for n in range(5000):  # more than a ring remembers, and a hundred times around it
        deck.deal(make(f"short-{n}"))
        [flight] = deck.flights.take()
        flight.finish()
        deck.ledger.collect()
        deck.lab.flush()
    assert deck.ledger.all_running(0)[0][0] == 0
    assert deck.ledger.running_payload(0, 0)[1] == make("long")
    long.finish()
    deck.ledger.collect()
    deck.lab.flush()
    assert (deck.ledger.busy(), deck.ledger.size, deck.lab.broker.claims) == (0, 0, {})
    deck.close()


def test_what_a_dead_child_had_in_flight_is_returned(deck: Deck) -> None:
    deck.ledger.set_depths(5)
    deck.deal(late("a"), early("b"), late("c"), early("d"), late("unstarted"))
    flights = deck.flights.take()
    flights[2].outcome(_core.ACK, 0, b"")
    found = deck.ledger.bury(0)
    assert [(payload, bool(flags & _core.LATE)) for _entry, _kind, _task, flags, payload, _began in found] == [
        (late("a"), True),
        (early("b"), False),
        (early("d"), False),
    ]
    assert [deck.ledger.where(entry) for entry, *_ in found] == [(0, 1, 0), None, None]
    assert deck.ledger.pending == 1
    assert deck.lab.segment.suspects() == []


def test_a_loop_is_woken_once_for_what_was_dealt_while_it_slept(deck: Deck) -> None:
    assert deck.flights.rest()
    deck.deal(late("a"), late("b"))
    assert deck.woken()
    deck.deal(late("c"))
    assert not deck.woken()  # it has not gone to sleep again
    assert not deck.flights.rest()
    assert len(deck.flights.take()) == 3
    assert deck.flights.rest()
    deck.deal(late("d"))
    assert deck.woken()
    deck.flights.take()
    assert deck.flights.rest()  # full: more are of no use
    deck.ledger.set_depths(1)
    deck.deal(late("e"))
    assert not deck.woken()
    deck.ledger.dismiss(0)
    assert deck.woken()
    assert not deck.flights.rest()


def test_a_wish_finds_the_task_that_it_was_made_for(deck: Deck) -> None:
    deck.deal(late("a"), late("b"))
    one, other = deck.flights.take()
    assert deck.ledger.wish(0, other.number, False)
    assert deck.woken()
    assert deck.flights.wishes() == [(other, False)]
    assert deck.flights.wishes() == []
    assert deck.ledger.wish(0, one.number, True)
    one.finish()
    deck.deal(late("c"))
    deck.flights.take()
    assert one not in [flight for flight, _softly in deck.flights.wishes()]  # its berth has another tenant
    assert not deck.ledger.wish(0, one.number, False)
    assert not deck.ledger.wish(0, 99, False)


# ---------------------------------------------------------------------------- death at every step

COUNT = 8


def act(deck: Deck, log: Log) -> None:
    """Take, and end what is in flight in an order by chance, in every way."""
    chance, flying = random.Random(5), []
    while True:
        flying += deck.flights.take()
        for flight in flying:
            log[int(number_of(flight))] = max(1, log[number_of(flight)])
        if not flying:
            return
        flight = flying.pop(chance.randrange(len(flying)))
        number = number_of(flight)
        if number % 3 == 0:
            flight.store(1, put(100 + number, 10))
        flight.event(b'{"n": %d}' % number)
        size = {0: 0, 1: 20, 2: 900, 3: 5000}[number % 4]
        log[number] = 2
        flight.outcome(_core.ACK, 1 if size else 0, put(number, size) if size else b"")
        log[number] = 3
        deck.flights.tell()


def number_of(flight: _core.Flight) -> int:
    return int(flight.payload().split(b'"id": "id-')[1][:3])


@pytest.mark.skipif(not _core.DEBUG, reason="only a debug build can die at a step: make debug-core")
def test_a_child_with_tasks_in_flight_dies_at_every_step(tmp_path: Path) -> None:
    for step in range(1, 10_000):
        deck, log = Deck(tmp_path, berths=3), Log()
        messages = [(late if n % 2 else early)(f"id-{n:03d}") for n in range(COUNT)]
        deck.ledger.set_depths(COUNT)
        deck.deal(*messages)
        deck.ledger.recall(0)
        deck.ledger.deal()
        died = dies_at(step, lambda deck=deck, log=log: act(deck, log))  # type: ignore[misc]
        _judge(deck, log, messages)
        for path in tmp_path.iterdir():
            path.unlink()
        if not died:
            assert step > 100, "there are too few steps"
            return


def _judge(deck: Deck, log: Log, messages: list[bytes]) -> None:
    """Whatever the child did, the engine knows exactly that; and so would a restorer."""
    started = {place for _key, _n, place in deck.lab.segment.started_unconfirmed()}
    suspects = {place for _key, _n, place in deck.lab.segment.suspects()}
    began, ending, ended = log.noted(1), log.noted(2), log.noted(3)
    found = deck.ledger.bury(0)
    lost = [messages.index(payload) for _entry, _kind, _task, _flags, payload, _began in found]
    unstarted = deck.ledger.pending
    finished = set(range(COUNT - unstarted)) - set(lost)
    assert lost == sorted(lost)
    assert ended <= finished <= ending
    assert began <= finished | set(lost)
    assert started == {n for n in range(COUNT - unstarted) if n % 2 == 0}
    assert {n for n in lost if n % 2} <= suspects <= {n for n in range(COUNT - unstarted) if n % 2}
    _finish(deck, found, messages, finished)


def _finish(
    deck: Deck, found: list[tuple[int, int, int, int, bytes, int]], messages: list[bytes], finished: set[int]
) -> None:
    for entry, _kind, _task, _flags, payload, _began in found:
        if deck.ledger.where(entry) is None:
            deck.ledger.settle(entry)
        else:
            deck.ledger.place(entry, payload, flags=_core.LATE)
    port = deck.lab.open_child(1)
    deck.ledger.set_depths(100)
    deck.ledger.deal()
    while port.wait(0.0) == 1:
        if port.start():
            port.outcome(_core.ACK, 0, b"")
    deck.ledger.collect()
    deck.lab.flush()
    results = [int(words[1][:3]) for words in deck.lab.broker.results]
    assert {n for n in results if n < 100} == {n for n in finished if n % 4}
    assert sorted(place for _number, place in deck.lab.broker.told) == list(range(len(messages)))
    assert (deck.ledger.size, deck.ledger.busy(), deck.ledger.reusable(0), deck.lab.broker.claims) == (0, 0, True, {})
    deck.close()


class LoopEngine(Engine):
    """An engine and a child with an event loop in one process; what is started first ends last."""

    def run(self) -> None:
        port = self.lab.open_child(0, berths=4)
        flights, flying = _core.Flights(port, 4), list[_core.Flight]()
        self.lab.ledger.set_depths(3)
        for turn in range(12):
            self._take(3)
            if turn == 2:
                self.lab.ledger.recall(0)
                self.lab.ledger.deal()
            flying += self._fly(flights)
            while len(flying) > 1:
                flying.pop().finish()
            self.lab.ledger.collect()
            if turn % 2:
                self._flush()
        self._flush()

    def _fly(self, flights: _core.Flights) -> list[_core.Flight]:
        # What may be started is noted before, what has been started afterwards.
        for number in range(self.count):
            self.log[number] = max(self.log[number], 1)
        flying = flights.take()
        for flight in flying:
            self.log[int(flight.payload().split(b'"id": "')[1][:3])] = 2
        return flying


@pytest.mark.skipif(not _core.DEBUG, reason="only a debug build can die at a step: make debug-core")
def test_an_engine_with_tasks_in_flight_dies_at_every_step(tmp_path: Path) -> None:
    for step in range(1, 10_000):
        engine = LoopEngine(tmp_path)
        died = dies_at(step, engine.run)
        engine.check()
        engine.lab.close()
        if not died:
            assert engine.log.noted(3), "nothing was settled"
            assert step > 250, "there are too few steps"
            return
