"""A native application of unique tasks, on the wire that the environment says."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from fastq import FastQ
from fastq.app.task import BaseTask
from tests.apps.ledger import ledger

PREFIX = {"global_keyprefix": "once:"}

app = FastQ(
    "once",
    broker=os.environ.get("FASTQ_TEST_BROKER", "redis://127.0.0.1:6379/0"),
    backend=os.environ.get("FASTQ_TEST_BACKEND"),
    broker_transport_options=PREFIX,
    wire="fastq",
)


def _wait(token: str) -> None:
    while not (ledger().folder / f"gate-{token}").exists():
        time.sleep(0.01)


@app.task(unique="token")
def gated(token: str, more: int = 0) -> int:
    (ledger().folder / f"ran-{token}-{os.getpid()}").touch()
    _wait(token)
    return os.getpid()


@app.task(unique="token", acks_late=True, reject_on_worker_lost=True)
def again(token: str) -> int:
    (ledger().folder / f"ran-{token}-{os.getpid()}").touch()
    _wait(token)
    return os.getpid()


@app.task(unique=True, ignore_result=True)
def silent(x: int = 1) -> None:
    pass


@app.task(unique=True, bind=True, max_retries=1)
def retried(self: BaseTask[Any, Any], token: str) -> int:
    if not (ledger().folder / f"gate-{token}").exists():
        raise self.retry(countdown=2)
    return self.request.retries


@app.task(unique=lambda x, *, y: f"{x}-{y}")
def fails(x: int, *, y: int) -> None:
    raise ValueError(x)


@app.task(unique=True, unique_for=0.5, queue="nobody")
def short(x: int) -> int:
    return x


@app.task(unique=True, queue="nobody-else")
def waits(x: int) -> int:
    return x


@app.task
def plain(x: int) -> int:
    return x


loops = FastQ(
    "loops",
    broker=os.environ.get("FASTQ_TEST_BROKER", "redis://127.0.0.1:6379/0"),
    backend=os.environ.get("FASTQ_TEST_BACKEND"),
    broker_transport_options=PREFIX,
    task_default_queue="loops",
)


@loops.task(unique=True)
async def awaited(token: str) -> int:
    while not (ledger().folder / f"gate-{token}").exists():
        await asyncio.sleep(0.01)
    return 1


@loops.task(unique=True, time_limit=0.3)
async def endless(token: str) -> int:
    await asyncio.sleep(60)
    return 1
