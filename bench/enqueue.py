"""The rows of sending: one task at a time, many at once, collected in the background, by coroutines; no worker runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import redis

from bench.lab import lab
from bench.measurement import Sample
from bench.rounds import Case
from bench.sizes import Sizes
from fastq import FastQ
from fastq.celery import accelerate
from fastq.producer import AsyncProducer, Buffering, Producer

TASK = "bench.enqueue"

QUEUE = "bench"

#: Sends before the clock starts: connections, imports, declarations, caches.
WARM_UP = 50

#: Coroutines that send at the same time.
AT_ONCE = 100

#: Sends so many tasks to this Redis and returns the seconds it took, without what comes before the first.
Send = Callable[[str, int], float]


def arguments(number: int) -> tuple[int, str]:
    """What a task is sent with."""
    return number, "a word or two"


def _timed(send: Callable[[range], object], count: int) -> float:
    send(range(WARM_UP))
    began = time.perf_counter()
    send(range(WARM_UP, WARM_UP + count))
    return time.perf_counter() - began


# fastq


def one_by_one(url: str, count: int, *, wire: Any = "celery") -> float:
    """`delay` of a FastQ application, which returns when Redis has the task."""
    app = FastQ("bench.client", broker=url, wire=wire, task_default_queue=QUEUE, task_ignore_result=True)
    task = app.task(name=TASK)(_nothing)
    try:
        return _timed(lambda numbers: [task.delay(*arguments(n)) for n in numbers], count)
    finally:
        app.close()


def at_once(url: str, count: int, *, wire: Any = "celery") -> float:
    """`Producer.send_many`."""
    with Producer(url, queue=QUEUE, ignore_result=True, wire=wire) as producer:
        return _timed(lambda numbers: producer.send_many(TASK, ((arguments(n), None) for n in numbers)), count)


def buffered(url: str, count: int) -> float:
    """`Producer.send` into a buffer, until Redis has everything."""
    with Producer(url, queue=QUEUE, ignore_result=True, buffer=Buffering()) as producer:

        def send(numbers: range) -> None:
            for number in numbers:
                producer.send(TASK, arguments(number))
            producer.flush()

        return _timed(send, count)


def by_coroutines(url: str, count: int) -> float:
    """`AsyncProducer.send` of many coroutines at the same time."""

    async def send(producer: AsyncProducer, numbers: range) -> None:
        for at in range(0, len(numbers), AT_ONCE):
            await asyncio.gather(*(producer.send(TASK, arguments(n)) for n in numbers[at : at + AT_ONCE]))

    async def run() -> float:
        async with AsyncProducer(url, queue=QUEUE, ignore_result=True) as producer:
            await send(producer, range(WARM_UP))
            began = time.perf_counter()
            await send(producer, range(WARM_UP, WARM_UP + count))
            return time.perf_counter() - began

    return asyncio.run(run())


# Celery, and Celery accelerated


def _application(url: str) -> tuple[Any, Any]:
    """A client of Celery's and its task; results are ignored, as above."""
    from celery import Celery

    app = Celery("bench.client", broker=url, set_as_current=False)
    app.conf.update(task_default_queue=QUEUE, task_ignore_result=True)
    return app, app.task(_nothing, name=TASK)


def _nothing(*_args: Any) -> None:
    """The task is not run."""


def delay(url: str, count: int, *, fast: bool = False) -> float:
    """Celery's `delay`."""
    app, task = _application(url)
    if fast:
        accelerate(app)
    try:
        return _timed(lambda numbers: [task.delay(*arguments(n)) for n in numbers], count)
    finally:
        app.close()


def group(url: str, count: int, *, fast: bool = False) -> float:
    """Celery's `group`."""
    from celery import group as together

    app, task = _application(url)
    if fast:
        accelerate(app)
    try:
        return _timed(lambda numbers: together(task.s(*arguments(n)) for n in numbers).apply_async(), count)
    finally:
        app.close()


def batch(url: str, count: int) -> float:
    """The fastest that Celery and kombu can do together: `apply_async` inside a batch of kombu's."""
    app, task = _application(url)

    def send(numbers: range) -> None:
        with app.producer_or_acquire() as producer, producer.batch():
            for number in numbers:
                task.apply_async(arguments(number), producer=producer)

    try:
        return _timed(send, count)
    finally:
        app.close()


# The rows


def run(send: Send, count: int) -> list[Sample]:
    """Send, and count what is there."""
    with lab() as place:
        cpu_s, began_s = time.process_time(), time.perf_counter()
        seconds = send(place.url, count)
        cpu_s, all_s = time.process_time() - cpu_s, time.perf_counter() - began_s
        with redis.Redis.from_url(place.url) as client:
            found: Any = client.llen(QUEUE)
    extras = {"cpu_us": round(cpu_s / (count + WARM_UP) * 1e6, 1), "cpu_share": round(cpu_s / all_s, 2)}
    missing = count + WARM_UP - int(found)
    return [
        Sample(
            measure="rate",
            value=count / seconds,
            unit="msg/s",
            better="higher",
            lost=max(0, missing),
            repeated=max(0, -missing),
            extras=extras,
        )
    ]


def enqueue(sizes: Sizes) -> list[Case]:
    """Sending, side by side."""
    few, many = sizes.drain_celery, sizes.drain

    def case(workload: str, system: str, send: Send, count: int, settings: str = "") -> Case:
        return Case(workload=workload, system=system, settings=settings, run=lambda: run(send, count))

    return [
        case("send", "fastq", one_by_one, 4 * few),
        case("send", "celery", delay, few),
        case("send", "fastq", lambda url, count: one_by_one(url, count, wire="fastq"), 4 * few, "wire=fastq"),
        case("send-many", "fastq", at_once, many),
        case("send-many", "celery", batch, few),
        case("send-many", "fastq", lambda url, count: at_once(url, count, wire="fastq"), many, "wire=fastq"),
        case("send-buffered", "fastq", buffered, many),
        case("send-async", "fastq", by_coroutines, 4 * few),
        case("delay-accelerated", "fastq", lambda url, count: delay(url, count, fast=True), few),
        case("delay-accelerated", "celery", delay, few),
        case("group-accelerated", "fastq", lambda url, count: group(url, count, fast=True), few),
        case("group-accelerated", "celery", group, few),
    ]
