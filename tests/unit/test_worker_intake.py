"""Claiming and waiting, with the server's answers in an order that a real one rarely chooses."""

from __future__ import annotations

import mmap
from typing import Any

import pytest

from fastq import _core
from fastq.worker.pipeline.intake import Intake, QueueKey
from fastq.worker.pipeline.order import Turns
from tests.loose_end import LooseEnd


class FakeTimers(dict[str, Any]):
    """Timers that nobody runs."""

    def set(self, name: str, _delay_s: float, call: Any) -> None:
        self[name] = call

    def cancel(self, name: str) -> None:
        self.pop(name, None)


def key(name: str) -> QueueKey:
    raw = name.encode()
    return QueueKey(queue=name, step=0, key=raw, claim_prefix=b"claim:" + raw + b":", index=b"claims:" + raw)


def turns(keys: list[QueueKey]) -> Turns:
    return Turns([(each.queue, each.step) for each in keys])


class Scene:
    """An intake of one queue that is connected, has seen an empty queue, and waits."""

    def __init__(self) -> None:
        memory = mmap.mmap(-1, _core.Segment.size_of(1, 1 << 16, 1 << 12))
        segment = _core.Segment.create(memory, slots=1, task_bytes=1 << 16, result_bytes=1 << 12, worker=b"w")
        self.ledger = _core.Ledger(segment, [b"t.add"], [False], [(0.0, 0.0)])
        timers: Any = FakeTimers()
        self.intake = Intake(
            self.ledger,
            keys=[key("one")],
            order=turns([key("one")]),
            timers=timers,
            credit=lambda: 4,
            round_trip=lambda _took_s: None,
        )
        self.claims, self.waiter = LooseEnd(), LooseEnd()
        claims: Any = self.claims
        self.intake.up(claims, waiters=[(0, self.stream_of(self.waiter), 7)], registered=1)
        self.intake.pump()
        self.answer(self.claims, b":1\r\n:0\r\n")  # the number of the claim is noted; the queue is empty
        self.intake.pump()
        assert self.waiter.count(b"BLMOVE") == 1

    @staticmethod
    def stream_of(fake: LooseEnd) -> Any:
        return fake

    def answer(self, stream: LooseEnd, data: bytes) -> None:
        stream.reader.feed(data)
        self.intake.ready(self.stream_of(stream))


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_wait_that_begins_after_it_was_to_end_is_ended_again(scene: Scene) -> None:
    scene.intake.quiet()
    assert scene.claims.count(b"UNBLOCK") == 1
    scene.answer(scene.claims, b":1\r\n:0\r\n")  # the empty claim is forgotten; nobody was blocked yet
    assert scene.claims.count(b"UNBLOCK") == 2
    assert not scene.intake.drained
    scene.answer(scene.claims, b":1\r\n")
    assert scene.claims.count(b"UNBLOCK") == 2
    scene.answer(scene.waiter, b":1\r\n$-1\r\n")
    assert scene.intake.drained


def test_a_wait_that_has_ended_is_not_ended_again(scene: Scene) -> None:
    scene.intake.quiet()
    scene.answer(scene.waiter, b":1\r\n$-1\r\n")
    scene.answer(scene.claims, b":1\r\n:0\r\n")
    assert scene.claims.count(b"UNBLOCK") == 1
    assert scene.intake.drained


def test_a_server_that_does_not_allow_it_is_asked_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.intake.quiet()
    scene.answer(scene.claims, b":1\r\n-NOPERM no permission\r\n")
    assert scene.claims.count(b"UNBLOCK") == 1
    assert "NOPERM" in caplog.text


def test_nothing_is_claimed_from_a_key_that_is_not_registered(scene: Scene) -> None:
    second = key("two")
    scene.intake.add([second], order=turns([key("one"), second]))
    assert scene.intake.unattended == [1]
    scene.intake.pump()
    # One claim was forgotten, another noted; the queues' lengths.
    scene.answer(scene.claims, b":1\r\n:1\r\n:0\r\n:5\r\n")
    scene.intake.pump()
    assert not scene.claims.count(b"claim:two")
    scene.intake.more([(1, scene.stream_of(LooseEnd()), 8)], registered=2)
    assert scene.intake.unattended == []
    scene.intake.pump()
    scene.answer(scene.claims, b":1\r\n:1\r\n:0\r\n:5\r\n")
    scene.intake.pump()
    assert scene.claims.count(b"claim:two")


def test_a_cancelled_key_is_not_claimed_from_whatever_its_length(scene: Scene) -> None:
    scene.intake.cancel("one")
    scene.answer(scene.claims, b":1\r\n:1\r\n")
    scene.answer(scene.waiter, b":1\r\n$-1\r\n")
    before = len(scene.claims.sent)
    scene.intake.pump()
    assert len(scene.claims.sent) == before
    assert scene.waiter.count(b"BLMOVE") == 1
    scene.intake.resume("one")
    scene.intake.pump()
    assert len(scene.claims.sent) == before + 1
