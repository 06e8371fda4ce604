"""What one part of a message's way costs without the others. Each round is a batch of BATCH messages, unless said."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from fastq import _core
from fastq.producer.ids import uuids
from fastq.producer.message import Stencil
from fastq.producer.options import Options
from fastq.transport.redis import commands
from fastq.wire.envelope import read_header
from tests.child_lab import ChildLab
from tests.core.ledger_lab import STAMP, Lab

#: Messages of one claim, as the worker makes them.
BATCH = 256

EARLY, LATE = "t.early", "t.late"


def envelopes(name: str, count: int = BATCH) -> list[bytes]:
    """Messages as Celery's client writes them, 900 bytes each."""
    stencil = Stencil(name, options=Options(), queue="queue", priority=0, reply_to="", now=datetime.now(timezone.utc))
    return [text.encode() for text in stencil.fill([((number,), None) for number in range(count)], uuids(2 * count))]


def same(number: int) -> int:
    """The task."""
    return number


def reply_to_claim(messages: list[bytes]) -> bytes:
    """What the server answers to a claim: SADD's one, the messages, the length of the queue."""
    bulks = b"".join(b"$%d\r\n%b\r\n" % (len(message), message) for message in messages)
    return b":1\r\n" + bulks + b":1000\r\n"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path, slots=1, task_bytes=1 << 20, result_bytes=1 << 20)
    yield made
    made.close()


def test_scan_of_one_envelope(benchmark: Any) -> None:
    (message,) = envelopes(EARLY, 1)
    assert benchmark(_core.scan, message) is not None


def test_plain_python_reads_one_header(benchmark: Any) -> None:
    (message,) = envelopes(EARLY, 1)
    assert benchmark(read_header, message).task == EARLY


def test_pack_a_claim(benchmark: Any) -> None:
    keys = [b"celery", b"celery\x06\x163", b"celery\x06\x166", b"celery\x06\x169"]

    def pack() -> bytes:
        return commands.claim(b"celery", into=b"claim:1", index=b"claims", n=1, count=BATCH, lengths_of=keys)

    assert benchmark(pack)


def test_encode_messages(benchmark: Any) -> None:
    stencil = Stencil(EARLY, options=Options(), queue="q", priority=0, reply_to="", now=datetime.now(timezone.utc))
    arguments, ids = [((number,), None) for number in range(BATCH)], uuids(2 * BATCH)
    assert len(benchmark(stencil.fill, arguments, ids)) == BATCH


@pytest.mark.parametrize("name", [EARLY, LATE])
def test_claim_to_settlement(benchmark: Any, lab: Lab, name: str) -> None:
    """The engine's whole way: reply read, scanned, taken, dealt; (the child); collected, flushed, confirmed."""
    reply = reply_to_claim(envelopes(name))
    reader, port = _core.Reader(), lab.open_child(0)
    lab.ledger.set_depth(0, 2 * BATCH)

    def batch() -> None:
        index, _number = lab.ledger.open_batch(0, BATCH)
        reader.expect_claim(index, BATCH, 1)
        reader.feed(reply)
        assert reader.read_claim(lab.ledger) is not None
        lab.ledger.close_batch(index)
        lab.ledger.deal()
        for _ in range(BATCH):
            port.wait(0.0)
            port.start()
            if name == LATE:
                port.outcome(_core.ACK, 0, b"")
            else:
                port.finish()
        lab.ledger.collect()
        assert lab.ledger.flush(STAMP) is not None
        lab.ledger.confirm()

    benchmark(batch)
    assert lab.ledger.size == 0


def test_child_runs_tasks_that_store_results(benchmark: Any) -> None:
    """The child's way: frame found, body decoded, task called, result written to the ring."""
    app: Any = Celery("micro", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/0", set_as_current=False)
    app.task(name="t.noop")(same)
    app.finalize()
    child = ChildLab(app, fast=True, task_bytes=1 << 20, result_bytes=1 << 20)
    messages = envelopes("t.noop")

    def batch() -> None:
        for message in messages:
            child.put(message)

    def run() -> None:
        assert len(child.run()) >= BATCH

    benchmark.pedantic(run, setup=batch, rounds=50)
    assert not child.left_to_python
    child.close()
