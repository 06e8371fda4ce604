"""Where the microseconds of one task go, stage by stage: `python -m bench.stages`.

The engine's and the child's stages are run by themselves, in this process, on rings in memory, in batches as the worker
has them. What Redis spends is taken from its own statistics of commands after a real backlog has been worked off. The
table of docs/internals/profiling.md is what this prints.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from celery import Celery

from bench.drain import CHILDREN
from bench.lab import lab
from bench.micro.test_parts import BATCH, EARLY, envelopes, reply_to_claim, same
from bench.processes import FASTQ
from fastq import _core
from fastq.transport.redis import commands
from tests.child_lab import ChildLab
from tests.core.ledger_lab import STAMP, Lab

#: Tasks of the backlog.
TASKS = 60_000

#: Commands that are of the benchmark, or of the worker's start.
_NOT_OURS = frozenset({"info", "ping", "select", "client|setinfo", "client|id", "hello", "lpush", "command|docs"})

Times = dict[str, list[float]]


def timed(times: Times, name: str, run: Callable[[], object], *, each: int = BATCH) -> None:
    """Run something, and note CPU microseconds of this thread for each message: others on the machine hardly count."""
    began = time.thread_time_ns()
    run()
    times[name].append((time.thread_time_ns() - began) / each / 1e3)


#: What a child leaves for a result: SETEX and PUBLISH, as long as those of a small one.
RESULT = commands.pack("SETEX", "k" * 53, 3600, "v" * 180) + commands.pack("PUBLISH", "k" * 53, "v" * 180)


def engine(folder: Path, times: Times, *, rounds: int, result: bytes) -> None:
    """The engine's way of a batch; `result` is what each task leaves for the result store."""
    how = ", results stored" if result else ""
    place = Lab(folder, slots=1, task_bytes=1 << 20, result_bytes=1 << 20)
    reply, reader, port = reply_to_claim(envelopes(EARLY)), _core.Reader(), place.open_child(0)
    place.ledger.set_depth(0, 2 * BATCH)
    for _ in range(rounds):
        index, _number = place.ledger.open_batch(0, BATCH)
        timed(times, "write a claim", _claim)
        reader.expect_claim(index, BATCH, 1)
        reader.feed(reply)
        timed(times, "parse the reply, scan, admit, deal", lambda: reader.read_claim(place.ledger))
        place.ledger.close_batch(index)
        timed(times, "deal what had to wait", place.ledger.deal)
        for _ in range(BATCH):
            port.wait(0.0)
            port.start()
            if result:
                port.store(2, result)
            port.finish()
        timed(times, f"collect{how}", place.ledger.collect)
        timed(times, f"settle: write the flush{how}", lambda: place.ledger.flush(STAMP))
        timed(times, "confirm", place.ledger.confirm)
    place.close()


def _claim() -> bytes:
    keys = [b"celery", b"celery\x06\x163", b"celery\x06\x166", b"celery\x06\x169"]
    return commands.claim(b"celery", into=b"claim:1", index=b"claims", n=1, count=BATCH, lengths_of=keys)


def child(rounds: int) -> Times:
    """A child's way of a batch, with the result ignored and stored; and the bare call of the task."""
    times: Times = defaultdict(list)
    app: Any = Celery("stages", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/0", set_as_current=False)
    app.task(name="t.ignored", ignore_result=True)(same)
    app.task(name="t.stored")(same)
    app.finalize()
    one = ChildLab(app, fast=True, task_bytes=1 << 20, result_bytes=1 << 20)
    for name, messages in ((name, envelopes(name)) for name in ("t.ignored", "t.stored")):
        for _ in range(rounds):
            for message in messages:
                one.put(message)
            timed(times, f"child, frame to result: {name[2:]}", lambda: _work(one))
            one.ring.answers()
    for _ in range(rounds):
        timed(times, "child: the call alone, in Python", lambda: [same(number) for number in range(BATCH)])
    one.close()
    return times


def _work(one: ChildLab) -> None:
    while one.ring.peek()["done"] < one.ring.count:
        one.runner.work()


def redis() -> Iterator[tuple[str, float, float]]:
    """Each command: how often for a task, and microseconds for one."""
    with lab() as place:
        place.fill("stored", TASKS)
        with place.worker(FASTQ, children=CHILDREN) as worker:
            place.until_executed(1, worker=worker)
            place.client.config_resetstat()
            already = place.ledger.executed()
            place.until_executed(TASKS, worker=worker)
            time.sleep(0.2)
            found: Any = place.client.info("commandstats")
    for name, stats in sorted(found.items(), key=lambda item: -item[1]["usec"]):
        command = name.removeprefix("cmdstat_")
        if command not in _NOT_OURS:
            yield command.upper(), stats["calls"] / (TASKS - already), stats["usec_per_call"]


def table(times: Times) -> list[str]:
    """Medians, after the warm-up."""
    return [f"| {name} | {statistics.median(values[len(values) // 10 :]):.2f} |" for name, values in times.items()]


def _engine(rounds: int) -> None:
    times: Times = defaultdict(list)
    for result in (b"", RESULT):
        with tempfile.TemporaryDirectory() as folder:
            engine(Path(folder), times, rounds=rounds, result=result)
    print("| engine, a batch of 256 | µs a task |\n| --- | --- |")
    print("\n".join(table(times)))


def _child(rounds: int) -> None:
    print("\n| child | µs a task |\n| --- | --- |")
    print("\n".join(table(child(rounds))))


def _redis(_rounds: int) -> None:
    print("\n| Redis, results stored | calls a task | µs a call | µs a task |\n| --- | --- | --- | --- |")
    for command, often, each in redis():
        if often * each >= 0.005:
            print(f"| {command} | {often:.3f} | {each:.2f} | {often * each:.2f} |")


PARTS = {"engine": _engine, "child": _child, "redis": _redis}


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.stages", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all unless given")
    parser.add_argument("--rounds", type=int, default=400, help="batches that are timed (%(default)s)")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    for name in chosen.parts or PARTS:
        PARTS[name](chosen.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
