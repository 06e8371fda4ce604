"""The engine's part of events: batches, a bound on what waits, and what is said of what was dropped."""

from __future__ import annotations

import base64
import json
import mmap
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fastq import _core
from fastq.program import EventsInfo, TaskInfo
from fastq.worker.cluster import events as module
from fastq.worker.cluster.events import Counts, Events
from fastq.worker.poll import Timers
from tests.core.task_ring import commands


class Wire:
    """The connection to the broker, as far as events know it."""

    def __init__(self) -> None:
        self.stream: object | None = object()
        self.sent: list[list[bytes]] = []
        self._done: list[Callable[[list[bytes]], None]] = []

    def ask(self, data: bytes, replies: int, done: Callable[[list[bytes]], None]) -> None:
        found = commands(data)
        assert len(found) == replies
        self.sent += found
        self._done.append(done)

    def answer(self, *errors: bytes) -> None:
        self._done.pop(0)(list(errors))

    def events(self) -> list[dict[str, Any]]:
        """Everything that was published since the last call."""
        sent, self.sent = self.sent, []
        found: list[dict[str, Any]] = []
        for name, _channel, envelope in sent:
            assert name == b"PUBLISH"
            body = json.loads(base64.b64decode(json.loads(envelope)["body"]))
            found += body if isinstance(body, list) else [body]
        return found


class Bench:
    def __init__(self, **info: Any) -> None:
        self.memory = mmap.mmap(-1, _core.Segment.size_of(1, 4096, 4096))
        self.segment = _core.Segment.create(self.memory, slots=1, task_bytes=4096, result_bytes=4096, worker=b"w")
        self.ledger = _core.Ledger(self.segment, [b"t.a"], [False], [(0.0, 0.0)])
        self.wire, self.timers = Wire(), Timers()
        settler: Any = self.wire
        self.events = Events(
            self.ledger,
            segment=self.segment,
            node="w1@host",
            info=EventsInfo(**info),
            tasks=[TaskInfo(name="t.a")],
            channel=lambda key: f"/0.celeryev/{key}",
            counts=lambda: Counts(active=1, processed=2),
            settler=settler,
            timers=self.timers,
        )

    def happen(self, number: int, *, size: int = 0) -> None:
        pen = _core.EventPen(self.segment, lambda: b'{"clock": ')
        self.ledger.add_event(pen.write(b"task-x", b'"n": %d, "text": "%b"' % (number, b"x" * size)))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_happens_before_an_answer_goes_in_one_message(bench: Bench) -> None:
    bench.happen(1)
    bench.events.pump()
    for number in (2, 3, 4):
        bench.happen(number)
        bench.events.pump()
    assert [event["n"] for event in bench.wire.events()] == [1]
    bench.wire.answer()
    bench.events.pump()
    assert len(bench.wire.sent) == 3
    assert [event["n"] for event in bench.wire.events()] == [2, 3, 4]
    bench.wire.answer()
    assert bench.events.clean
    assert bench.events.sent == 4


def test_while_the_broker_is_away_the_latest_are_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 10_000)
    bench.wire.stream = None
    for number in range(100):
        bench.happen(number, size=900)
        bench.events.pump()
    assert bench.events.dropped > 80
    bench.wire.stream = object()
    bench.events.pump()
    bench.wire.answer()
    kept = [event["n"] for event in bench.wire.events()]
    assert kept == list(range(100 - len(kept), 100))
    assert len(kept) + bench.events.dropped == 100
    assert f"{bench.events.dropped} events were dropped" in caplog.text


def test_what_was_on_its_way_is_sent_again(bench: Bench) -> None:
    bench.happen(1)
    bench.events.pump()
    bench.wire.events()
    bench.events.went()
    bench.happen(2)
    bench.events.pump()
    assert [event["n"] for event in bench.wire.events()] == [1, 2]


def test_events_wait_for_the_results_they_tell_of(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.happen(1)
    monkeypatch.setattr(bench.events, "_ledger", SimpleNamespace(untold_events=False, result_backlog=10))
    bench.events._wait(module.Waiting("task-multi", b'{"n": 1}', 1))
    bench.events.pump()
    assert not bench.wire.sent
    bench.events.heartbeat()
    bench.events.pump()
    assert [event["type"] for event in bench.wire.events()] == ["worker-heartbeat"]


def test_refused_events_are_dropped_and_said(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.happen(1)
    bench.events.pump()
    bench.wire.answer(b"NOPERM no permission")
    assert (bench.events.dropped, bench.events.clean) == (1, True)
    assert "NOPERM" in caplog.text


def test_a_worker_comes_beats_and_leaves(bench: Bench) -> None:
    bench.events.came()
    assert "event-heartbeat" in bench.timers
    bench.events.leave()
    bench.events.leave()
    assert "event-heartbeat" not in bench.timers
    bench.events.pump()
    online, offline = bench.wire.events()
    assert (online["type"], online["active"], online["processed"], online["freq"]) == ("worker-online", 1, 2, 2.0)
    assert offline["type"] == "worker-offline"


def test_without_heartbeat_nothing_is_said() -> None:
    bench = Bench(heartbeat_s=None)
    bench.events.came()
    bench.events.leave()
    assert bench.events.clean


def test_switching_has_celerys_answers(bench: Bench) -> None:
    events = bench.events
    assert [events.disable(), events.enable(), events.enable(), events.disable()] == [
        "task events already disabled",
        "task events enabled",
        "task events already enabled",
        "task events disabled",
    ]
    always = Bench(tasks=True).events
    assert [always.enable(), always.disable(), always.tasks] == [
        "task events already enabled",
        "task events already disabled",
        True,
    ]
