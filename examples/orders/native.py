"""The orders of a shop as a native application: no Celery, typed, the same messages. Compare with `with_celery.py`."""

from __future__ import annotations

import logging
import os
from typing import Any

import msgspec

from fastq import FastQ, chain, chord, signals

REDIS = os.environ.get("ORDERS_REDIS", "redis://127.0.0.1:6379/0")

app = FastQ("orders", broker=REDIS, backend=REDIS)
app.conf.task_routes = {"orders.ship": {"queue": "shipping"}}


class Reserved(msgspec.Struct):
    order: int
    articles: list[str]
    attempts: int = 0


class BankUnreachable(Exception):
    """For this moment."""


@app.task(name="orders.reserve")
def reserve(order: int, articles: list[str]) -> Reserved:
    return Reserved(order, articles)


@app.task(
    name="orders.charge",
    bind=True,
    autoretry_for=(BankUnreachable,),
    retry_backoff=0.1,
    retry_jitter=True,
    max_retries=5,
    acks_late=True,
)
def charge(self: Any, reserved: Reserved, failures: int = 0) -> Reserved:
    if self.request.retries < failures:
        raise BankUnreachable(f"attempt {self.request.retries}")
    return msgspec.structs.replace(reserved, attempts=self.request.retries + 1)


@app.task(name="orders.ship")
def ship(charged: Reserved) -> str:
    return f"order {charged.order} with {len(charged.articles)} articles after {charged.attempts} attempts"


def place(order: int, articles: list[str]) -> Any:
    return chain(reserve.s(order, articles), charge.s(failures=2), ship.s()).apply_async()


@app.task(name="orders.price")
def price(article: str) -> int:
    return len(article)


@app.task(name="orders.total")
def total(prices: list[int]) -> int:
    return sum(prices)


def value(articles: list[str]) -> Any:
    return chord([price.s(article) for article in articles], total.s()).apply_async()


@app.cron("0 6 * * *", args=("daily",), name="report-every-morning")
@app.task(name="orders.report")
def report(kind: str) -> str:
    return f"{kind} report"


@signals.task_failure.connect
def alert(sender: Any, task_id: str, exception: BaseException, **_rest: Any) -> None:
    logging.getLogger("orders").error("ALERT: %s[%s] failed: %r", sender.name, task_id, exception)


def urgent_report() -> Any:
    return report.apply_async(("urgent",), priority=0, countdown=0.1, expires=60)
