"""The tour: an ordinary Celery application, a hundred thousand messages, both engines, every task counted.

    python -m bench.demo [--messages 100000] [--engines fastq,celery]

For each engine: a part of the messages is put on the queue by fastq's bulk producer before the worker starts, so
that the rate is the worker's own; the rest is sent by the stock Celery client while the worker runs; then some
single messages measure the latency of a worker that has little to do. Celery gets a smaller sample of the same.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import redis

from bench.measurement import Roles, percentile
from bench.processes import CELERY, ENGINES, FASTQ, Engine, Worker, wait_for
from bench.progress import progress
from fastq.embedded import EmbeddedRedis
from fastq.errors import SurroundingsError
from fastq.producer import Producer

TASK = "examples.shop.tasks.record"

#: Messages that Celery's worker gets: some seconds of its time.
CELERY_MESSAGES = 6_000

#: Seconds the stock client may send; it makes about 2,000 messages/s. What it does not reach goes by the producer.
STOCK_S = 40.0

#: Single messages for the latency, and their number per second: light load, so nobody queues.
SINGLE = 200
SINGLE_PER_S = 50.0

#: Seconds without any execution after which the demo calls the rest lost.
STALL_S = 30.0


class Tour(msgspec.Struct, frozen=True, kw_only=True):
    """What one engine did."""

    engine: str
    by_producer: int
    by_stock_client: int
    done: int
    lost: int
    repeated: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: Roles


class Book:
    """The file in which the shop's `record` task writes: number, start, time of sending."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0
        self._lines = 0
        path.touch()

    def executed(self) -> int:
        """Executions so far; reads only what is new."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        self._read += len(data)
        self._lines += data.count(b"\n")
        return self._lines

    def entries(self) -> list[tuple[int, float, float]]:
        """All executions."""
        rows = (line.split() for line in self.path.read_text().splitlines())
        return [(int(number), float(started), float(sent)) for number, started, sent in rows]


class Stage:
    """One engine's part of the tour, before its worker starts."""

    def __init__(self, engine: Engine, *, url: str, folder: Path) -> None:
        self.engine = engine
        self.client = redis.Redis.from_url(url)
        self.queue = f"shop-demo-{engine.name}-{os.getpid()}"
        self.producer = Producer(url, queue=self.queue)
        self.book = Book(folder / f"{engine.name}.ledger")
        environment = {"SHOP_REDIS_URL": url, "SHOP_QUEUE": self.queue, "SHOP_LEDGER": str(self.book.path)}
        log = folder / f"{engine.name}.log"
        self.worker = Worker(
            engine, app="examples.shop", queue=self.queue, children=2, environment=environment, log=log
        )

    def play(self, messages: int) -> Tour:
        """Send, run, count."""
        early = messages - messages // 2
        self.bulk(range(early))
        with self.worker:
            cpu_us = self.drain(early)
            stock = self.send_stock(range(early, messages))
            self.bulk(range(early + stock, messages))
            self.follow(messages, title="finishing")
            self.send_single(messages)
        return self.tour(messages, stock=stock, early=early, cpu_us=cpu_us)

    def bulk(self, numbers: range) -> None:
        """Send by fastq's producer."""
        if not numbers:
            return
        with progress(
            f"{self.engine.name}: {len(numbers):,} messages by the bulk producer", total=len(numbers)
        ) as show:
            sent = 0
            for ids in self.producer.send_chunks(TASK, (((number,), None) for number in numbers)):
                sent += len(ids)
                show(sent)

    def drain(self, count: int) -> Roles:
        """Let the worker work off what is there, and return CPU microseconds per task by role."""
        wait_for(self.book.executed, within_s=STALL_S, worker=self.worker, every_s=0.005)
        already, before = self.book.executed(), self.cpu_s()
        self.follow(count, title="working off the backlog")
        return (self.cpu_s() - before).each(count - already, unit=1e-6)

    def cpu_s(self) -> Roles:
        """CPU seconds by role."""
        found: Any = self.client.info("cpu")
        server_s = float(found["used_cpu_sys"]) + float(found["used_cpu_user"])
        return msgspec.structs.replace(self.worker.cpu_s(), redis=server_s)

    def follow(self, count: int, *, title: str) -> None:
        """Wait until so many executions are in the book, or until nothing comes any more."""
        seen, moved = 0, time.monotonic()
        with progress(f"{self.engine.name}: {title}", total=count) as show:
            while (now := self.book.executed()) < count and time.monotonic() - moved < STALL_S:
                if now != seen:
                    seen, moved = now, time.monotonic()
                self.worker.check()
                show(now)
                time.sleep(0.02)

    def send_stock(self, numbers: range) -> int:
        """Send by Celery's own client as long as it may; return how many."""
        task, began, sent = _stock_task(), time.monotonic(), 0
        with progress(f"{self.engine.name}: messages by the stock Celery client, live", total=len(numbers)) as show:
            for number in numbers:
                task.apply_async((number,), queue=self.queue)
                sent += 1
                if not sent % 200:
                    show(sent)
                    if time.monotonic() - began > STOCK_S:
                        break
        return sent

    def send_single(self, start: int) -> None:
        """Send single messages at a steady pace."""
        began = time.monotonic()
        with progress(f"{self.engine.name}: single messages, for the latency", total=SINGLE) as show:
            for turn in range(SINGLE):
                time.sleep(max(0.0, began + turn / SINGLE_PER_S - time.monotonic()))
                self.producer.send(TASK, (start + turn, time.time()))
                show(turn + 1)
        self.follow(start + SINGLE, title="finishing")

    def tour(self, messages: int, *, stock: int, early: int, cpu_us: Roles) -> Tour:
        """Read the book."""
        entries = self.book.entries()
        seen = Counter(number for number, _, _ in entries)
        backlog = [started for number, started, _ in entries if number < early]
        late_ms = [(started - sent) * 1e3 for _, started, sent in entries if sent]
        span_s = max(backlog) - min(backlog)
        return Tour(
            engine=self.engine.name,
            by_producer=messages - stock + SINGLE,
            by_stock_client=stock,
            done=len(seen),
            lost=sum(number not in seen for number in range(messages + SINGLE)),
            repeated=sum(times - 1 for times in seen.values()),
            rate=(len(backlog) - 1) / span_s if span_s else 0.0,
            p50_ms=percentile(late_ms, 50),
            p99_ms=percentile(late_ms, 99),
            cpu_us=cpu_us,
        )

    def clear(self) -> None:
        """Leave nothing on a server that is not ours."""
        self.client.delete(self.queue)
        self.producer.close()
        self.client.close()


def _stock_task() -> Any:
    """Return the shop's task as a web process would import it; the environment must be set before."""
    from examples.shop.tasks import record

    return record


def table(tours: list[Tour]) -> str:
    """The engines side by side."""
    rows: list[tuple[str, list[str]]] = [
        ("", [tour.engine for tour in tours]),
        ("sent by the bulk producer", [f"{tour.by_producer:,}" for tour in tours]),
        ("sent by the stock Celery client", [f"{tour.by_stock_client:,}" for tour in tours]),
        ("tasks done, each counted once", [f"{tour.done:,}" for tour in tours]),
        ("lost", [f"{tour.lost:,}" for tour in tours]),
        ("repeated", [f"{tour.repeated:,}" for tour in tours]),
        ("tasks/s, working off a backlog", [f"{tour.rate:,.0f}" for tour in tours]),
        ("latency from send to start, p50", [f"{tour.p50_ms:.2f} ms" for tour in tours]),
        ("latency from send to start, p99", [f"{tour.p99_ms:.2f} ms" for tour in tours]),
        ("CPU per task: engine", [f"{tour.cpu_us.engine:.1f} µs" for tour in tours]),
        ("CPU per task: children", [f"{tour.cpu_us.children:.1f} µs" for tour in tours]),
        ("CPU per task: Redis", [f"{tour.cpu_us.redis:.1f} µs" for tour in tours]),
    ]
    return "\n".join(f"  {name:<36}" + "".join(f"{value:>16}" for value in values) for name, values in rows)


@contextlib.contextmanager
def _redis() -> Iterator[str]:
    """The server named in FASTQ_REDIS_URL, or one of our own."""
    given = os.environ.get("FASTQ_REDIS_URL")
    if given:
        yield given
        return
    with EmbeddedRedis() as server:
        print(f"started a Redis of our own on port {server.port}", flush=True)
        yield server.url


def run(messages: int, engines: list[Engine]) -> list[Tour]:
    """Take the tour with each engine."""
    tours = []
    with tempfile.TemporaryDirectory(prefix="fastq-demo-") as folder, _redis() as url:
        os.environ["SHOP_REDIS_URL"] = url
        for engine in engines:
            stage = Stage(engine, url=url, folder=Path(folder))
            with contextlib.ExitStack() as after:
                after.callback(stage.clear)
                tours.append(stage.play(messages if engine is FASTQ else min(messages, CELERY_MESSAGES)))
    return tours


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.demo", description="fastq beside Celery in two minutes")
    parser.add_argument("--messages", type=int, default=100_000, help=f"for fastq; Celery gets {CELERY_MESSAGES}")
    parser.add_argument("--engines", default=f"{FASTQ.name},{CELERY.name}", help="comma list, default both")
    return parser.parse_args()


def main() -> int:
    """Run the demo; 1 when a task was lost or repeated, or a worker failed."""
    # TERM as Ctrl-C: both unwind the blocks that stop workers and server.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chosen = _arguments()
    try:
        tours = run(chosen.messages, [ENGINES[name] for name in chosen.engines.split(",")])
    except KeyboardInterrupt:
        print("\ninterrupted; workers and server were stopped", file=sys.stderr)
        return 130
    except (SurroundingsError, RuntimeError, TimeoutError) as exc:
        print(f"\n{exc}", file=sys.stderr)
        return 1
    print(f"\n{table(tours)}\n")
    return 1 if any(tour.lost or tour.repeated for tour in tours) else 0


if __name__ == "__main__":
    sys.exit(main())
