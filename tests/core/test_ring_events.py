"""Events on their way through the core: written by child and engine, in one order, none of an end that was none."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastq import _core, clock
from fastq.wire.event import event_head, received_fields
from tests.core.forked import fork
from tests.core.ledger_lab import FAST, TASKS, Lab
from tests.core.task_ring import envelope

EARLY, LATE = (task.decode() for task in TASKS)

needs_plain = pytest.mark.skipif(
    not FAST, reason="the engine's own events are of plain messages; FASTQ_FAST=0 has none"
)


class Telling(Lab):
    """A lab whose ledger tells of its tasks, or of some."""

    def __init__(self, folder: Path, *, told: tuple[bool, bool] = (True, True), **shape: Any) -> None:
        super().__init__(folder, **shape)
        self.pen = _core.EventPen(self.segment, lambda: event_head("w1@host", pid=77))
        self.ledger.tell_received(self.pen, list(told))
        self.segment.events = True

    def told(self) -> list[dict[str, Any]]:
        """Everything that is to be told since the last call."""
        found: list[dict[str, Any]] = []
        for data, count in self.ledger.take_events():
            events = json.loads(b"[%b]" % data)
            assert len(events) == count
            found += events
        return found


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Telling]:
    made = Telling(tmp_path)
    yield made
    made.close()


def test_an_event_is_written_as_celery_writes_it(lab: Telling) -> None:
    before = clock.now()
    event = json.loads(lab.pen.write(b"task-rejected", b'"uuid": "x", "requeue": true'))
    assert list(event) == ["hostname", "utcoffset", "pid", "clock", "uuid", "requeue", "timestamp", "type"]
    assert (event["hostname"], event["pid"], event["clock"], event["type"]) == ("w1@host", 77, 1, "task-rejected")
    assert before - 1e-5 <= event["timestamp"] <= clock.now()
    assert json.loads(lab.pen.write(b"bare", b""))["clock"] == 2


def test_the_clock_is_later_than_whatever_was_heard(lab: Telling) -> None:
    assert [lab.segment.tick(), lab.segment.tick()] == [1, 2]
    assert lab.segment.adjust(40) == 41
    assert lab.segment.adjust(7) == 42
    assert lab.segment.clock == 42


@needs_plain
def test_the_engine_tells_what_it_has_received(lab: Telling) -> None:
    message = envelope(EARLY, (1, "é"), {"k": None}, root_id="root", parent_id="parent", retries=2)
    lab.take([message])
    [event] = lab.told()
    assert list(event)[4:-2] == ["uuid", "name", "args", "kwargs", "root_id", "parent_id", "retries", "eta", "expires"]
    assert (event["type"], event["name"], event["args"]) == ("task-received", EARLY, "(1, 'é')")
    assert lab.told() == []


_texts = st.none() | st.text(max_size=8) | st.just("missing")


@needs_plain
@given(_texts, _texts, _texts, _texts, st.integers(0, 9) | st.none() | st.just("missing"), st.randoms())
def test_what_it_tells_is_what_python_reads(
    tmp_path_factory: pytest.TempPathFactory, args: Any, kwargs: Any, root: Any, parent: Any, retries: Any, order: Any
) -> None:
    message = json.loads(envelope(EARLY))
    headers = message["headers"] | {
        "argsrepr": args,
        "kwargsrepr": kwargs,
        "root_id": root,
        "parent_id": parent,
        "retries": retries,
    }
    others = [name for name in headers if headers[name] != "missing" and name not in ("lang", "task")]
    order.shuffle(others)
    message["headers"] = {name: headers[name] for name in ("lang", "task", *others)}
    raw = json.dumps(message).encode()
    lab = Telling(tmp_path_factory.getbasetemp())
    lab.take([raw])
    if _core.scan(raw) is not None:
        [event] = lab.told()
        assert received_fields(raw) == {name: event[name] for name in list(event)[4:-2]}
    lab.close()


@needs_plain
def test_only_what_is_to_be_told_is_told(tmp_path: Path) -> None:
    lab = Telling(tmp_path, told=(False, True))
    lab.take([envelope(EARLY), envelope(LATE)])
    assert [event["name"] for event in lab.told()] == [LATE]
    lab.segment.events = False
    lab.take([envelope(LATE)])
    assert lab.told() == []
    assert not lab.ledger.untold_events
    lab.close()


@needs_plain
def test_an_end_is_told_behind_its_outcome(lab: Telling) -> None:
    port = lab.open_child(0)
    lab.ledger.set_depths(10)
    lab.take([envelope(LATE), envelope(EARLY)])
    lab.ledger.deal()
    lab.told()
    ends: list[Callable[[], None]] = [lambda: port.outcome(_core.ACK, 0, b""), port.finish]
    for end in ends:
        assert port.wait(0.0) == 1
        assert port.start()
        port.event(lab.pen.write(b"task-started", b""), now=True)
        port.event(lab.pen.write(b"task-rejected", b""))
        port.event(lab.pen.write(b"task-failed", b""))
        lab.ledger.collect()
        assert [event["type"] for event in lab.told()] == ["task-started"]
        end()
        lab.ledger.collect()
        assert [event["type"] for event in lab.told()] == ["task-rejected", "task-failed"]
    assert lab.flush()
    assert lab.ledger.size == 0


def test_a_child_knows_whether_to_tell(lab: Telling) -> None:
    port = lab.open_child(0)
    assert port.telling
    lab.segment.events = False
    assert not port.telling


@needs_plain
def test_a_large_event_goes_by_a_file(lab: Telling) -> None:
    port = lab.open_child(0)
    lab.take([envelope(LATE)])
    lab.ledger.deal()
    lab.told()
    assert port.wait(0.0) == 1
    assert port.start()
    port.event(lab.pen.write(b"task-failed", b'"traceback": "%b"' % (b"x" * 10_000)))
    port.outcome(_core.ACK, 0, b"")
    lab.ledger.collect()
    [event] = lab.told()
    assert event["traceback"] == "x" * 10_000
    assert not list(lab.folder.glob("side*"))


def test_messages_have_a_size(lab: Telling) -> None:
    for _ in range(1000):
        lab.ledger.add_event(lab.pen.write(b"task-x", b'"text": "%b"' % (b"y" * 400)))
    chunks = lab.ledger.take_events()
    assert len(chunks) > 3
    assert all(len(data) < 140_000 for data, _count in chunks)
    assert sum(count for _data, count in chunks) == 1000


@pytest.mark.skipif(not _core.DEBUG, reason="only a debug build can die at a step: make debug-core")
def test_a_child_that_tells_dies_at_every_step(tmp_path: Path) -> None:
    """Nobody hears of an end that was none; what has ended is heard of, unless the child died in the telling."""
    for step in range(1, 10_000):
        lab = Telling(tmp_path, task_bytes=32768, result_bytes=16384)
        port = lab.open_child(0)
        lab.ledger.set_depths(100)
        lab.take([envelope(task, task_id=f"id-{n}") for n in range(6) for task in (EARLY, LATE)])
        lab.ledger.deal()
        lab.told()
        died = _tell_all(lab, port, step)
        victim = next(iter(lab.ledger.bury(0)), None)
        lab.ledger.collect()
        ended = 12 - lab.ledger.pending - (victim is not None)
        told = [event["n"] for event in lab.told() if event["type"] == "task-succeeded"]
        assert told in (list(range(ended)), list(range(ended - 1)))
        lab.close()
        if not died:
            assert (ended, step > 60) == (12, True)
            return


def _tell_all(lab: Telling, port: _core.ChildPort, step: int) -> bool:
    def body() -> None:
        _core.set_fuse(step)
        for number in range(12):
            while port.wait(0.0) != 1 or not port.start():
                pass
            port.event(lab.pen.write(b"task-started", b'"n": %d' % number), now=True)
            port.event(lab.pen.write(b"task-succeeded", b'"n": %d' % number))
            if port.flags & _core.LATE:
                port.outcome(_core.ACK, 0, b"")
            else:
                port.finish()

    _pid, status = os.waitpid(fork(body), 0)
    return os.waitstatus_to_exitcode(status) == -signal.SIGKILL
