"""One measurement's surroundings: a Redis of its own, a ledger, a producer, workers on a queue."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import redis

from bench import cores
from bench.count import Ledger
from bench.processes import STOP_S, Program, Worker, wait_for
from fastq.embedded import EmbeddedRedis
from fastq.producer import Producer
from fastq.producer.options import Wire

QUEUE = "bench"

#: Seconds without a single execution after which a measurement is given up.
STALL_S = 60.0

#: A ledger is looked at this often. Looking costs a few microseconds; more often would tax the cores we measure.
LOOK_S = 0.02


class Lab:
    """What a measurement needs; everything in it ends with the block."""

    def __init__(self, folder: Path, *, url: str) -> None:
        self.folder = folder
        self.url = url
        self.client = redis.Redis.from_url(url)
        self.producer = Producer(url, queue=QUEUE)
        (folder / "ledger").mkdir()
        self.ledger = Ledger(folder / "ledger")
        self._numbers = itertools.count()

    def close(self) -> None:
        """Let the connections go."""
        self.producer.close()
        self.client.close()

    def worker(
        self,
        engine: Program,
        *,
        app: str = "bench.apps.tasks",
        children: int = 2,
        url: str = "",
        more: Mapping[str, str] | None = None,
        stop_s: float = STOP_S,
    ) -> Worker:
        """A worker on this lab's queue, not started yet; `url` if it is to reach Redis another way, `more` for its
        environment."""
        return Worker(
            engine,
            app=app,
            queue=QUEUE,
            children=children,
            environment={**self.environment(url or self.url), **(more or {})},
            log=self.folder / f"{engine.name}-{next(self._numbers)}.log",
            stop_s=stop_s,
        )

    def environment(self, url: str) -> dict[str, str]:
        """What the applications in `bench/apps` read."""
        return {
            "FASTQ_BENCH_URL": url,
            "FASTQ_BENCH_QUEUE": QUEUE,
            "FASTQ_BENCH_LEDGER": str(self.ledger.folder),
        }

    def fill(self, task: str, count: int, *, start: int = 0, wire: Wire = "celery", **options: Any) -> None:
        """Put `count` numbered messages of a task on the queue."""
        many = (((number,), None) for number in range(start, start + count))
        with Producer(self.url, queue=QUEUE, wire=wire) as producer:
            for _ in producer.send_chunks(f"bench.apps.tasks.{task}", many, **options):
                pass

    def redis_cpu_s(self) -> float:
        """CPU seconds of the server so far."""
        found: Any = self.client.info("cpu")
        return float(found["used_cpu_sys"]) + float(found["used_cpu_user"])

    def redis_commands(self) -> int:
        """Commands the server has served so far."""
        found: Any = self.client.info("stats")
        return int(found["total_commands_processed"])

    def until_executed(self, count: int, *, worker: Worker) -> None:
        """Wait until so many executions are written down. Raises TimeoutError when nothing moves any more."""
        seen, moved = -1, time.monotonic()
        while (now := self.ledger.executed()) < count:
            if now != seen:
                seen, moved = now, time.monotonic()
            if time.monotonic() - moved > STALL_S:
                raise TimeoutError(f"{worker.engine.name}: {now} of {count} executed, none for {STALL_S:g} s")
            worker.check()
            time.sleep(LOOK_S)

    def warm(self, worker: Worker, *, children: int) -> None:
        """Wait until every child has run something, then forget that it did."""
        self.fill("noop", 200 * children)
        self.until_executed(200 * children, worker=worker)
        wait_for(lambda: not self.client.llen(QUEUE), within_s=10, worker=worker)
        self.forget()

    def forget(self) -> None:
        """Start the ledger anew. The files stay open in the children, so they are cut, not removed."""
        for path in self.ledger.folder.glob("*.led"):
            with path.open("r+b") as file:
                file.truncate(0)


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """A lab with a fresh Redis."""
    with tempfile.TemporaryDirectory(prefix="fastq-bench-") as folder, EmbeddedRedis() as server:
        cores.pin("server", server.pid or 0)
        place = Lab(Path(folder), url=server.url)
        try:
            yield place
        finally:
            place.close()
