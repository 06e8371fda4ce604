"""The Celery application: where the broker is, and where the tasks are."""

from __future__ import annotations

import os

from celery import Celery

REDIS_URL = os.environ.get("SHOP_REDIS_URL", "redis://127.0.0.1:6379/0")

app = Celery("shop", broker=REDIS_URL, backend=REDIS_URL, include=["examples.shop.tasks"])

app.conf.update(
    task_default_queue=os.environ.get("SHOP_QUEUE", "shop"),
    task_routes={"examples.shop.tasks.monthly_report": {"queue": "shop-slow"}},
    result_expires=3600,
    worker_prefetch_multiplier=64,
    broker_connection_retry_on_startup=True,
)
