"""When a line watches for its answer, and when it sleeps until it comes."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fastq import clock
from fastq.producer import line as module
from fastq.producer.line import MOST_SKIPPED, Line, Lines
from fastq.transport.connect import Endpoint, OpenConnection
from fastq.transport.urls import read_urls

URL = "redis://127.0.0.1:1/0"

WATCHED, SLEPT = [socket.MSG_DONTWAIT], [0]


class Place:
    """Somewhere to connect to; each connection has an end here that answers when it is told to."""

    def __init__(self) -> None:
        self.ends: list[socket.socket] = []

    def open(self, *, kind: type[socket.socket] = socket.socket) -> OpenConnection:
        ours, theirs = socket.socketpair()
        self.ends += [ours, theirs]
        if kind is not socket.socket:
            ours = self.ends[-2] = kind(fileno=ours.detach())
        return OpenConnection(ours, address=read_urls(URL)[0])

    def answer(self) -> None:
        """An answer is there before the question is asked."""
        self.ends[-1].sendall(b":1\r\n")


@pytest.fixture
def place() -> Iterator[Place]:
    """Somewhere to connect to."""
    made = Place()
    yield made
    for end in made.ends:
        end.close()


@pytest.fixture(autouse=True)
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The flags of every read since the last look; watching ends by an answer only, however slow the machine is."""
    flags: list[int] = []
    read = Line._read

    def noted(line: Line, replies: list[Any], given: int = 0) -> None:
        read(line, replies, given)
        flags.append(given)

    monkeypatch.setattr(Line, "_read", noted)
    monkeypatch.setattr(module, "SPIN_S", 60.0)
    return flags


def asked(place: Place, line: Line, reads: list[int]) -> list[int]:
    """Ask once; returns the flags of the reads that succeeded."""
    place.answer()
    assert line.ask(b"PING\r\n", 1) == [1]
    said, reads[:] = list(reads), []
    return said


def test_an_answer_is_watched_for_if_that_was_said(place: Place, reads: list[int]) -> None:
    line = Line(place.open(), timeout_s=5)

    assert asked(place, line, reads) == SLEPT
    line.hurried = True
    assert asked(place, line, reads) == WATCHED


def test_answers_that_come_late_are_watched_for_less_and_less(
    place: Place, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(place.open(), timeout_s=5)
    line.hurried = True

    monkeypatch.setattr(module, "SPIN_S", 0.0)

    skipped = []
    for _ in range(9):
        assert asked(place, line, reads) == SLEPT
        skipped.append(_left(line))
        for _ in range(_left(line)):
            assert asked(place, line, reads) == SLEPT

    assert skipped == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert max(skipped) == MOST_SKIPPED


def _left(line: Line) -> int:
    """How many questions will go by without watching."""
    return line._skip


def test_one_answer_in_time_and_all_are_watched_for_again(
    place: Place, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(place.open(), timeout_s=5)
    line.hurried = True
    with monkeypatch.context() as late:
        late.setattr(module, "SPIN_S", 0.0)
        for _ in range(20):
            assert asked(place, line, reads) == SLEPT

    before = [asked(place, line, reads) for _ in range(_left(line))]
    after = [asked(place, line, reads) for _ in range(5)]

    assert before == [SLEPT] * len(before)
    assert after == [WATCHED] * 5


def test_a_socket_of_another_class_is_never_watched(place: Place, reads: list[int]) -> None:
    class Wrapped(socket.socket):
        """As TLS and gevent have it."""

    line = Line(place.open(kind=Wrapped), timeout_s=5)
    line.hurried = True

    assert asked(place, line, reads) == SLEPT


class Alone(Endpoint):
    """Connections to a place."""

    place: Place

    def open(self, timeout_s: float = 4.0, client_name: str = "") -> OpenConnection:
        return self.place.open()


@pytest.fixture
def lines(place: Place, monkeypatch: pytest.MonkeyPatch) -> Lines:
    """Lines to the place, at a time that stands still."""
    monkeypatch.setattr(clock, "monotonic", lambda: 1000.0)
    endpoint = Alone(read_urls(URL))
    endpoint.place = place
    return Lines(endpoint, timeout_s=5)


def test_who_sends_in_a_loop_watches(lines: Lines) -> None:
    first = lines.take()
    assert not first.hurried
    lines.give(first)

    again = lines.take()

    assert again is first
    assert again.hurried


def test_who_sends_now_and_then_does_not_watch(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    lines.give(lines.take())
    monkeypatch.setattr(clock, "monotonic", lambda: 1000.5)

    assert not lines.take().hurried


def test_of_threads_that_send_at_the_same_time_none_watches_beside_another(lines: Lines) -> None:
    with ThreadPoolExecutor(1) as another:
        one, two = another.submit(lines.take).result(), lines.take()
        lines.give(two)

        assert not lines.take().hurried

        lines.give(two)
        another.submit(lines.give, one).result()
        assert lines.take().hurried


def test_who_lost_a_connection_is_not_counted_for_ever(lines: Lines) -> None:
    with ThreadPoolExecutor(1) as another:
        one, two = another.submit(lines.take).result(), lines.take()
        lines.give(two)
        another.submit(lines.drop, one).result()

    assert lines.take().hurried


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_line_that_an_interrupted_thread_never_gave_back_is_closed_and_forgotten(lines: Lines) -> None:
    lines.give(lines.take())
    torn = weakref.ref(lines.take())
    gc.collect()

    assert torn() is None
    lines.give(lines.take())
    assert lines.take().hurried
