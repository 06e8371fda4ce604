"""What type checkers must accept, and what they must make of it. Not run: read by `test_typing.py`."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime, timezone
from typing import Any

import msgspec
from typing_extensions import assert_type

from fastq import CoroutineTask, FastQ, Signature, Task, chain, chord, crontab, group, signals
from fastq.errors import TaskFailed, TaskRevoked
from fastq.producer import AsyncHandle, GroupHandle, Handle

app = FastQ("typed", broker="redis://127.0.0.1:6379/0", backend="redis://127.0.0.1:6379/0", wire="fastq")


class Order(msgspec.Struct):
    number: int


class Receipt(msgspec.Struct):
    paid: bool


@app.task
def charge(order: Order, *, amount: float = 0.0) -> Receipt:
    return Receipt(paid=bool(order.number and amount))


@app.task(queue="slow", max_retries=None, autoretry_for=(OSError, ValueError), retry_backoff=True, rate_limit="10/m")
def with_options(name: str) -> list[str]:
    return [name]


@app.task(max_running=2, max_running_key="name", unique=lambda name: name)
def bounded(name: str) -> str:
    return name


@app.task(max_running=1, max_running_key=lambda name, **_: str(name))
async def bounded_by_function(name: str) -> str:
    return name


@app.task(bind=True, acks_late=True)
def bound(self: Task[[int], str], number: int) -> str:
    if self.request.retries < 2:
        raise self.retry(countdown=1.5, exc=ValueError(number))
    return str(number)


@app.task
async def fetch(url: str, *, times: int = 1) -> bytes:
    return url.encode() * times


@app.task(bind=True, soft_time_limit=1.5)
async def bound_fetch(self: CoroutineTask[[str], bytes], url: str) -> bytes:
    return self.name.encode() + url.encode()


@app.task(typing=False, ignore_result=True)
def nothing() -> None: ...


@app.every(30, queue="slow")
@app.cron("@daily", tz="Europe/Berlin", missed=3, name="nightly")
@app.task
def scheduled(number: int = 0) -> str:
    return str(number)


@signals.task_failure.connect
def alert(sender: object, task_id: str, exception: BaseException, **rest: object) -> None:
    print(sender, task_id, exception, rest)


@signals.task_success.connect(sender=charge, weak=False, dispatch_uid="shop.paid")
def paid(sender: object, result: Receipt, **rest: object) -> bool:
    return result.paid


def calls() -> None:
    assert_type(charge(Order(1)), Receipt)
    assert_type(charge.delay(Order(1), amount=2.5), Handle[Receipt])
    assert_type(charge.delay(Order(1)).get(timeout=3), Receipt)
    assert_type(charge.delay(Order(1)).get(3, propagate=True), Receipt)
    assert_type(charge.delay(Order(1)).get(propagate=False), Receipt | TaskFailed | TaskRevoked)
    assert_type(group(charge.s(Order(1))).delay().join(timeout=3), list[Receipt])
    assert_type(group(charge.s(Order(1))).delay().get(propagate=False), list[Receipt | TaskFailed | TaskRevoked])
    assert_type(paid(None, Receipt(paid=True)), bool)
    assert_type(charge.apply_async((Order(1),), {"amount": 1.0}, countdown=5, queue="x").get(), Receipt)
    assert_type(charge.apply_async((Order(1),), eta=datetime.now(timezone.utc), expires=60.0), Handle[Receipt])
    assert_type(with_options.delay("a").get(), list[str])
    assert_type(bound(3), str)
    assert_type(bound.delay(3), Handle[str])
    assert_type(nothing.delay(), Handle[None])
    assert_type(scheduled.delay(3), Handle[str])
    app.cron(crontab(minute=[0, 30], day_of_week="mon-fri"), scheduled, args=[1], missed="all", priority=3)
    assert_type(app.send_task("elsewhere", (1, 2), priority=3), Handle[Any])
    coroutine: Coroutine[Any, Any, bytes] = fetch("http://x")
    coroutine.close()
    assert_type(fetch.delay("http://x", times=3).get(), bytes)
    assert_type(bound_fetch.delay("http://x").get(), bytes)


def workflows() -> None:
    paid = charge.s(Order(1))
    assert_type(paid, Signature[Receipt])
    assert_type(with_options.si("a"), Signature[list[str]])
    assert_type((paid | with_options.s()).delay().get(), list[str])
    assert_type(chain(paid).delay().get(), Receipt)
    assert_type(chain(paid, fetch.s("x"), with_options.s()).apply_async(queue="x", link=paid).get(), list[str])
    assert_type(chain([paid, fetch.s("x")]).delay().get(), Any)
    assert_type(group(paid, charge.s(Order(2))).delay().get(), list[Receipt])
    assert_type(group(charge.s(Order(n)) for n in range(3)).delay(), GroupHandle[Receipt])
    assert_type(chord([paid], bound.s()).delay().get(), str)
    assert_type(paid.set(queue="x", countdown=3).apply_async(priority=3), Handle[Receipt])
    assert_type(app.signature("elsewhere", (1,), queue="x"), Signature[Any])


async def calls_with_a_loop() -> None:
    assert_type(await fetch("http://x"), bytes)
    assert_type(await charge.adelay(Order(1)), AsyncHandle[Receipt])
    assert_type(await (await charge.aapply_async((Order(1),), priority=9)).get(timeout=3), Receipt)
    handle = await charge.adelay(Order(1))
    assert_type(await handle.get(propagate=False), Receipt | TaskFailed | TaskRevoked)
