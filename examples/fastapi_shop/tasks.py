"""The tasks, and the application they belong to. The worker imports this module, and not FastAPI."""

from __future__ import annotations

import os

from fastq import FastQ

queue = FastQ(
    "orders",
    broker=os.environ.get("BROKER_URL", "redis://127.0.0.1:6379/0"),
    backend=os.environ.get("BROKER_URL", "redis://127.0.0.1:6379/0"),
    task_default_queue="orders",
)


@queue.task(max_retries=5, autoretry_for=(ConnectionError,), retry_backoff=True)
def invoice(order: int, amount: float) -> str:
    """Slow in real life."""
    if amount <= 0:
        raise ValueError(f"an invoice over {amount:.2f} makes no sense")
    return f"invoice for order {order}: {amount:.2f}"
