"""What the shop does behind the scenes: prices, payments, parcels, mail, a report, and the demo's ledger."""

from __future__ import annotations

import functools
import os
import time
import zlib
from typing import Any

from celery import chain, shared_task
from celery.utils.log import get_task_logger

logger = get_task_logger(__name__)

PRICES_CENTS = {"tea": 450, "pot": 2900, "cup": 890}


class PaymentGatewayBusy(Exception):
    """The payment service asks us to come back later."""


@shared_task
def price(items: dict[str, int]) -> int:
    """Sum up an order, in cents."""
    return sum(PRICES_CENTS[name] * count for name, count in items.items())


@shared_task(bind=True, autoretry_for=(PaymentGatewayBusy,), retry_backoff=1, max_retries=5, acks_late=True)
def charge(self: Any, amount_cents: int, *, order: str) -> dict[str, Any]:
    """Take the money; every third order finds the gateway busy at first."""
    if zlib.crc32(order.encode()) % 3 == 0 and self.request.retries == 0:
        raise PaymentGatewayBusy(order)
    return {"order": order, "amount_cents": amount_cents, "attempts": self.request.retries + 1}


@shared_task(soft_time_limit=10, time_limit=20)
def pack(payment: dict[str, Any]) -> str:
    """Print the label for the parcel."""
    return f"{payment['order']}: paid {payment['amount_cents'] / 100:.2f} in {payment['attempts']} attempt(s)"


@shared_task(ignore_result=True)
def mail_receipt(text: str, *, to: str) -> None:
    """Tell the customer."""
    logger.info("mail to %s: %s", to, text)


@shared_task
def monthly_report(month: str, *, orders: list[int]) -> dict[str, Any]:
    """Some arithmetic that takes a moment."""
    return {"month": month, "orders": len(orders), "sum_cents": sum(sorted(orders))}


def place_order(order: str, items: dict[str, int], *, to: str) -> Any:
    """Send an order on its way through the shop; `get()` of what is returned waits until it is packed."""
    steps = chain(price.s(items), charge.s(order=order), pack.s().set(link=mail_receipt.s(to=to)))
    return steps.apply_async()


@functools.cache
def _ledger() -> int:
    """The file in which executions are counted. Opened at the first task of a process, so after the fork."""
    return os.open(os.environ["SHOP_LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


@shared_task(ignore_result=True)
def record(number: int, sent_at: float = 0.0) -> None:
    """Write down once that this number's task was executed, when it started, and when it was sent.

    One short write to a file opened for appending: lines of several processes do not mix.
    """
    os.write(_ledger(), b"%d %.6f %.6f\n" % (number, time.time(), sent_at))
