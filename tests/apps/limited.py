"""Native applications whose tasks may run only so often at once: functions, and coroutines."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import redis

from fastq import FastQ
from fastq.app.task import BaseTask
from tests.apps.ledger import ledger

BROKER = os.environ.get("FASTQ_TEST_BROKER", "redis://127.0.0.1:6379/0")
PREFIX = {"global_keyprefix": "few:"}

app = FastQ(
    "limited",
    broker=BROKER,
    backend=os.environ.get("FASTQ_TEST_BACKEND"),
    broker_transport_options=PREFIX,
    wire="fastq",
)
loops = FastQ(
    "limited-loops",
    broker=BROKER,
    backend=os.environ.get("FASTQ_TEST_BACKEND"),
    broker_transport_options=PREFIX,
    task_default_queue="loops",
)


def count(name: str, change: int) -> None:
    """Say how many run, and remember the most there were."""
    client: Any = redis.Redis.from_url(BROKER)
    running = client.incrby(f"seen:{name}", change)
    client.zadd("most", {name: running}, gt=True)
    client.close()


def _wait(token: str) -> None:
    ledger().write("ran", token)
    while not (ledger().folder / f"gate-{token}").exists():
        time.sleep(0.01)


@app.task(max_running=2)
def counted(wait_s: float = 0.02) -> str:
    count("counted", 1)
    time.sleep(wait_s)
    count("counted", -1)
    return counted.request.id


@app.task(max_running=1)
def total(ids: list[str]) -> int:
    return len(ids)


@app.task(max_running=1, max_running_key="customer")
def by_name(customer: int, wait_s: float = 0.01) -> int:
    count(f"by_name-{customer}", 1)
    time.sleep(wait_s)
    count(f"by_name-{customer}", -1)
    return customer


@app.task(max_running=1, max_running_key=lambda customer, *_: customer["name"])
def by_function(customer: dict[str, str], token: str) -> int:
    _wait(token)
    return os.getpid()


@app.task(max_running=1, max_running_key="key")
def watched(key: str, token: str) -> int:
    _wait(token)
    return os.getpid()


@app.task(max_running=1)
def gated(token: str) -> int:
    _wait(token)
    return os.getpid()


@app.task(max_running=1, acks_late=True, reject_on_worker_lost=True)
def late(token: str) -> int:
    _wait(token)
    return os.getpid()


@app.task(max_running=2, acks_late=True, reject_on_worker_lost=True)
def shot(number: int) -> int:
    ledger().write("ran", "shot")
    time.sleep(0.05)
    return number


@app.task(max_running=1, bind=True, max_retries=2, default_retry_delay=0.0)
def retried(self: BaseTask[Any, Any]) -> int:
    count("retried", 1)
    time.sleep(0.01)
    count("retried", -1)
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task(max_running=1, unique="token")
def once(token: str) -> int:
    _wait(token)
    return os.getpid()


@app.task(unique="token", acks_late=True, reject_on_worker_lost=True)
def alone(token: str) -> int:
    _wait(token)
    return os.getpid()


@loops.task(max_running=3)
async def awaited() -> None:
    count("awaited", 1)
    await asyncio.sleep(0.03)
    count("awaited", -1)


@loops.task(max_running=2)
def beside(token: str) -> int:
    _wait(token)
    return os.getpid()


@loops.task(max_running=1, max_running_key=lambda x: {}[x])
async def broken(x: int) -> None:
    pass
