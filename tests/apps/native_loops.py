"""A native application with coroutine tasks, and a few functions beside them."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
import uuid
from decimal import Decimal

import msgspec
from pydantic import AnyUrl, BaseModel, Field

from fastq import FastQ
from fastq.app.running.context import Request, current_request
from fastq.app.task import BaseTask
from fastq.errors import SoftTimeLimitExceeded
from tests.apps.ledger import ledger

app = FastQ(
    "loops",
    broker=os.environ.get("FASTQ_TEST_BROKER", "redis://127.0.0.1:6379/0"),
    backend=os.environ.get("FASTQ_TEST_BACKEND"),
    **msgspec.json.decode(os.environ.get("FASTQ_TEST_SETTINGS", "{}")),
)

mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="nobody's")


class Person(BaseModel):
    name: str = Field(alias="fullName")
    home: AnyUrl
    debts: dict[uuid.UUID, Decimal] = {}


@app.task
async def married(first: Person, others: dict[int, Person | int]) -> list[Person]:
    return [first, *[other for other in others.values() if isinstance(other, Person)]]


@app.task
async def add(x: int, y: int) -> int:
    await asyncio.sleep(0.01)
    return x + y


async def _nap(token: str, seconds: float) -> str:
    ledger().write("start", token)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        ledger().write("cancelled", token)
        raise
    ledger().write("end", token)
    return token


@app.task
async def nap(token: str, seconds: float) -> str:
    return await _nap(token, seconds)


@app.task
async def tick(token: str, seconds: float) -> float:
    """Return the longest time for which the loop was not there."""
    ledger().write("start", token)
    longest_s, last = 0.0, time.monotonic()
    end = last + seconds
    while last < end:
        await asyncio.sleep(0.02)
        now = time.monotonic()
        longest_s, last = max(longest_s, now - last), now
    ledger().write("end", token)
    return longest_s


@app.task(acks_late=True, reject_on_worker_lost=True)
async def nap_late(token: str, seconds: float) -> str:
    return await _nap(token, seconds)


@app.task(time_limit=0.3)
async def hard(token: str) -> str:
    return await _nap(token, 60)


@app.task(time_limit=1)
async def block(seconds: float) -> None:
    time.sleep(seconds)


@app.task(soft_time_limit=0.2)
async def soft(catch: bool) -> str:
    try:
        await asyncio.sleep(60)
    except SoftTimeLimitExceeded:
        if not catch:
            raise
        await asyncio.sleep(0.01)
        return "cleaned up"
    return "slept"


@app.task
async def who(token: str) -> list[str]:
    """What a task sees of its own context before, during and after others run."""
    before = mine.get()
    mine.set(token)
    await asyncio.sleep(0.02)
    inner = await asyncio.create_task(_look())
    return [before, mine.get(), *inner]


async def _look() -> list[str]:
    return [mine.get(), current_request().id]


@app.task(bind=True, max_retries=2, default_retry_delay=0.05)
async def flaky(self: BaseTask[[int], int], failures: int) -> int:
    await asyncio.sleep(0)
    if self.request.retries < failures:
        raise self.retry(exc=ValueError("again"))
    return self.request.retries


@app.task
async def fail(text: str) -> None:
    raise LookupError(text)


@app.task
async def unwritable() -> object:
    return object()


@app.task
async def cancel_yourself() -> None:
    raise asyncio.CancelledError


@app.task
def function(token: str, seconds: float) -> list[str]:
    time.sleep(seconds)
    return [token, current_request().id, threading.current_thread().name]


@app.task(time_limit=0.3)
def function_hard() -> None:
    time.sleep(2)


@app.task(soft_time_limit=0.2)
def function_soft() -> str:
    try:
        for _ in range(500):
            time.sleep(0.01)
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "slept"


async def note(task: BaseTask[..., object], request: Request, value: object) -> None:
    await asyncio.sleep(0.05)
    ledger().write(f"{task.__name__}:{type(value).__name__}", request.id)
    raise RuntimeError("nobody minds")


@app.task(on_success=note, on_failure=note)
async def hooked(x: int) -> int:
    return 10 // x


@app.task(on_success=note, on_failure=note)
def hooked_function(x: int) -> int:
    return 10 // x


@app.task(on_failure=note, time_limit=0.2)
async def hooked_hard() -> None:
    await asyncio.sleep(60)
