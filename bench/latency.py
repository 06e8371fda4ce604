"""The row of one call at a time: `delay().get()` in a loop, with Celery's own client at the other end."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bench.lab import lab
from bench.line import Line, Sizes, percentile, share
from bench.processes import CELERY, FASTQ, Engine

#: Calls before the clock starts: connections, first imports, warm caches.
WARM_UP = 30

#: Seconds one call may take before the row is given up.
CALL_S = 30.0


class Calls(msgspec.Struct, frozen=True, kw_only=True):
    """Many calls, one after the other, in milliseconds."""

    engine: str
    count: int
    p50_ms: float
    p99_ms: float


def calls(engine: Engine, *, count: int) -> Calls:
    """Send a task and wait for its result, `count` times."""
    with lab() as place, place.worker(engine) as worker:
        place.warm(worker, children=2)
        client = _client(place.url)
        taken_ms = [_call_ms(client, number) for number in range(WARM_UP + count)][WARM_UP:]
        client.close()
    return Calls(engine=engine.name, count=count, p50_ms=percentile(taken_ms, 50), p99_ms=percentile(taken_ms, 99))


def floor(*, count: int) -> Calls:
    """The same with an ideal worker: the time that is the client's own, which no worker can shorten."""
    with lab() as place:
        where = urlsplit(place.url)
        arguments = [str(where.port), where.path.strip("/") or "0", "bench"]
        worker = subprocess.Popen([sys.executable, "-m", "bench.floor", *arguments])
        try:
            client = _client(place.url)
            taken_ms = [_call_ms(client, number) for number in range(WARM_UP + count)][WARM_UP:]
            client.close()
        finally:
            worker.kill()
            worker.wait()
    return Calls(engine="floor", count=count, p50_ms=percentile(taken_ms, 50), p99_ms=percentile(taken_ms, 99))


def _client(url: str) -> Any:
    """Return Celery's client, as a web process has it; not the workers' module, which reads the environment."""
    from celery import Celery

    client = Celery("bench.client", broker=url, backend=url, set_as_current=False)
    client.conf.task_default_queue = "bench"
    return client


def _call_ms(client: Any, number: int) -> float:
    began = time.perf_counter()
    found = client.send_task("bench.apps.tasks.stored", (number,)).get(timeout=CALL_S)
    taken_ms = (time.perf_counter() - began) * 1e3
    if found != number:
        raise RuntimeError(f"the result of {number} came back as {found!r}")
    return taken_ms


def latency(sizes: Sizes) -> list[Line]:
    """One call at a time."""
    ours, theirs, least = calls(FASTQ, count=sizes.calls), calls(CELERY, count=sizes.calls), floor(count=sizes.calls)
    evidence = {"fastq": ours, "celery": theirs, "floor": least}
    return [
        Line(
            what=f"`delay().get()`, one at a time, {name}",
            target=f"{limit:.0%} of Celery's or less",
            fastq=f"**{share(mine, other):.0%}**, {mine:.2f} ms; an ideal worker: {best:.2f} ms",
            celery=f"{other:.2f} ms",
            reached=mine <= other * limit,
            evidence=evidence,
        )
        for name, mine, other, best, limit in (
            ("p50", ours.p50_ms, theirs.p50_ms, least.p50_ms, 1 / 3),
            ("p99", ours.p99_ms, theirs.p99_ms, least.p99_ms, 1 / 2),
        )
    ]
