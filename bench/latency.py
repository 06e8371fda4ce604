"""The row of one call at a time: `delay().get()` in a loop, with Celery's own client at the other end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import msgspec

from bench import floor
from bench.lab import lab
from bench.measurement import Sample, percentile
from bench.processes import CELERY, FASTQ, Engine
from bench.rounds import Case
from bench.sizes import Sizes
from fastq.producer.ids import uuids
from fastq.producer.message import Stencil
from fastq.producer.options import Options
from fastq.transport.redis.commands import pack

#: Calls before the clock starts: connections, first imports, warm caches.
WARM_UP = 30

TASK = "bench.apps.tasks.stored"

#: Seconds one call may take before the row is given up.
CALL_S = 30.0


class Calls(msgspec.Struct, frozen=True, kw_only=True):
    """Many calls, one after the other, in milliseconds."""

    engine: str
    count: int
    p50_ms: float
    p99_ms: float


#: Sends a task with this number and returns what came back as its result.
Call = Callable[[int], object]


def calls(engine: Engine, *, count: int, lean: bool = False) -> Calls:
    """Send a task and wait for its result, `count` times; `lean`: with the lean client, not the stock one."""
    with lab() as place, place.worker(engine) as worker:
        place.warm(worker, children=2)
        with _calling(place.url, lean=lean) as call:
            return _time(engine.name, call, count=count)


def least(*, count: int, lean: bool = False) -> Calls:
    """The same with the floor: the time that is client's and server's own, which no worker can shorten."""
    with lab() as place, floor.answering(place.url), _calling(place.url, lean=lean) as call:
        return _time("floor", call, count=count)


def _time(name: str, call: Call, *, count: int) -> Calls:
    taken_ms = [_call_ms(call, number) for number in range(WARM_UP + count)][WARM_UP:]
    return Calls(engine=name, count=count, p50_ms=percentile(taken_ms, 50), p99_ms=percentile(taken_ms, 99))


def _call_ms(call: Call, number: int) -> float:
    began = time.perf_counter()
    found = call(number)
    taken_ms = (time.perf_counter() - began) * 1e3
    if found != number:
        raise RuntimeError(f"the result of {number} came back as {found!r}")
    return taken_ms


@contextmanager
def _calling(url: str, *, lean: bool) -> Iterator[Call]:
    """A client of either kind."""
    if lean:
        with Lean(url) as client:
            yield client.call
        return
    stock = _client(url)
    yield lambda number: stock.send_task(TASK, (number,)).get(timeout=CALL_S)
    stock.close()


class Lean:
    """A client that reads exactly one announcement per call. See docs/benchmarks for why it is here.

    The stock client subscribes and unsubscribes for each result. When the result is there before `get()` looks, it
    leaves what the server has announced unread, and reads all of it in a later call: its slowest calls are the sum of
    earlier ones, and the quicker the worker, the more of them there are.
    """

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        address, db = (where.hostname or "127.0.0.1", where.port or 6379), where.path.strip("/") or "0"
        self._sending, self._hearing = (socket.create_connection(address, timeout=CALL_S) for _ in range(2))
        self._replies, self._heard = self._sending.makefile("rb"), self._hearing.makefile("rb")
        now = datetime.now(timezone.utc)
        self._stencil = Stencil(TASK, options=Options(), queue="bench", priority=0, reply_to="", now=now)
        self._sending.sendall(pack("SELECT", db))
        self._hearing.sendall(pack("PSUBSCRIBE", "celery-task-meta-*"))
        _read(self._replies)
        _read(self._heard)

    def call(self, number: int) -> object:
        """Send a task, wait for its result."""
        ids = uuids(2)
        (message,) = self._stencil.fill([((number,), None)], ids)
        self._sending.sendall(pack("LPUSH", "bench", message))
        _read(self._replies)
        channel, meta = _read(self._heard)[2:]
        if channel.decode() != f"celery-task-meta-{ids[0]}":
            raise RuntimeError(f"a result of another task was announced: {channel!r}")
        return msgspec.json.decode(meta)["result"]

    def __enter__(self) -> Lean:
        return self

    def __exit__(self, *_exc: object) -> None:
        for each in (self._replies, self._heard, self._sending, self._hearing):
            each.close()


def _read(stream: BinaryIO) -> Any:
    """One reply of the server."""
    line = stream.readline()
    if line[:1] == b"*":
        return [_read(stream) for _ in range(int(line[1:]))]
    return stream.read(int(line[1:]) + 2)[:-2] if line[:1] == b"$" else line[1:-2]


def _client(url: str) -> Any:
    """Return Celery's client, as a web process has it; not the workers' module, which reads the environment."""
    from celery import Celery

    client = Celery("bench.client", broker=url, backend=url, set_as_current=False)
    client.conf.task_default_queue = "bench"
    return client


def latency(sizes: Sizes) -> list[Case]:
    """One call at a time, with either client."""
    return [*_cases("get", sizes.calls, lean=False), *_cases("get-lean", sizes.calls, lean=True)]


def _cases(workload: str, count: int, *, lean: bool) -> list[Case]:
    def case(system: str, found: Callable[[], Calls]) -> Case:
        return Case(workload=workload, system=system, run=lambda: _samples(found()))

    return [
        case("fastq", lambda: calls(FASTQ, count=count, lean=lean)),
        case("celery", lambda: calls(CELERY, count=count, lean=lean)),
        case("floor", lambda: least(count=count, lean=lean)),
    ]


def _samples(found: Calls) -> list[Sample]:
    return [
        Sample(measure="p50", value=found.p50_ms, unit="ms", better="lower"),
        Sample(measure="p99", value=found.p99_ms, unit="ms", better="lower"),
    ]
