"""A native application for tests: broker and result store from the environment, as the lab sets them."""

from __future__ import annotations

import asyncio
import datetime
import os
import time
from decimal import Decimal

import msgspec

from fastq import FastQ, Ignore, Reject
from fastq.app.running.context import Request
from fastq.app.task import BaseTask
from tests.apps.ledger import ledger

app = FastQ(
    "native",
    broker=os.environ.get("FASTQ_TEST_BROKER", "redis://127.0.0.1:6379/0"),
    backend=os.environ.get("FASTQ_TEST_BACKEND"),
    **msgspec.json.decode(os.environ.get("FASTQ_TEST_SETTINGS", "{}")),
)


class Item(msgspec.Struct):
    name: str
    price: Decimal


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task(ignore_result=True)
def silent(x: int = 0) -> int:
    return x


@app.task
def loose(x, y=1):  # type: ignore[no-untyped-def]
    return [x, y]


@app.task
def total(items: list[Item], at: datetime.datetime) -> Item:
    return Item(f"{type(items[0]).__name__} at {at.isoformat()}", sum((item.price for item in items), Decimal(0)))


@app.task(bind=True, max_retries=2, default_retry_delay=0.05)
def flaky(self: BaseTask[[int], int], failures: int) -> int:
    if self.request.retries < failures:
        raise self.retry(exc=ValueError("again"))
    return self.request.retries


@app.task(autoretry_for=(KeyError,), retry_backoff=0.05, max_retries=2)
def auto() -> None:
    raise KeyError("no such")


class Speechless(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no words")

    __str__ = __repr__


@app.task(autoretry_for=(Speechless,), retry_backoff=0.01, max_retries=1)
def speechless() -> None:
    raise Speechless(Speechless())


def leave_late(*_args: object) -> None:
    raise SystemExit(9)


@app.task(on_success=leave_late)
def left_by_hook(self: int, args: list[int]) -> int:
    return self + len(args)


@app.task
def fail(text: str) -> None:
    raise LookupError(text)


@app.task
def ignored() -> None:
    raise Ignore


@app.task(acks_late=True)
def rejected() -> None:
    raise Reject("not wanted")


@app.task
def hold(token: str) -> str:
    ledger().write("start", token)
    ledger().pass_gate(token)
    return token


@app.task
def leave(code: int) -> None:
    os._exit(code)


@app.task(soft_time_limit=0.2)
def soft() -> None:
    time.sleep(5)


@app.task(time_limit=0.3)
def hard() -> None:
    time.sleep(30)


@app.task
def text(size: int) -> str:
    return "x" * size


@app.task(autoretry_for=(Exception,))
def retried_text(size: int) -> str:
    return "x" * size


@app.task(result_expires=60)
def brief() -> int:
    return 1


@app.task(result_expires=60, track_started=True)
def brief_tracked() -> int:
    return 1


@app.task(result_expires=60)
def brief_failure() -> None:
    raise LookupError("gone soon")


@app.task(result_expires=0)
def lasting() -> int:
    return 1


@app.task
def unwritable() -> object:
    return object()


async def note_slowly(task: BaseTask[..., object], request: Request, value: object) -> None:
    await asyncio.sleep(0.01)
    note(task, request, value)


def note(task: BaseTask[..., object], request: Request, value: object) -> None:
    ledger().write(type(value).__name__, request.id)
    raise RuntimeError("nobody minds")


@app.task(
    on_success=note, on_failure=note, on_retry=note_slowly, autoretry_for=(KeyError,), retry_backoff=0.05, max_retries=1
)
def hooked(x: int | None) -> int:
    if x is None:
        raise KeyError("x")
    return 10 // x
