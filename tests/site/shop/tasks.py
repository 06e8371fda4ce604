"""Tasks of a Django application: shared, bound to no Celery application by name."""

import os
from typing import Any

from celery import shared_task
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from shop.models import Order


@shared_task
def order(name: str) -> int:
    """Write an order down."""
    return int(Order.objects.create(name=name, pid=os.getpid()).pk)


@shared_task
def orders() -> list[str]:
    """All of them."""
    return sorted(Order.objects.values_list("name", flat=True))


@shared_task
def had_connection() -> bool:
    """Whether a connection was open when the task began; leaves one open."""
    was_open = connection.connection is not None
    connection.ensure_connection()
    return was_open


@shared_task
def order_both(first: str, second: str, fail: bool) -> None:
    """Two orders or none: the second is another task, sent when the first is certain."""
    with transaction.atomic():
        Order.objects.create(name=first, pid=os.getpid())
        order.delay_on_commit(second)
        assert not Order.objects.filter(name=second).exists()
        if fail:
            raise ValueError("changed my mind")


@shared_task(bind=True)
def surroundings(self: Any) -> dict[str, str]:
    """What the task sees of Django and Celery."""
    return {
        "settings": os.environ["DJANGO_SETTINGS_MODULE"],
        "zone": str(timezone.get_current_timezone()),
        "queue": settings.CELERY_TASK_DEFAULT_QUEUE,
        "limit": str(self.request.timelimit),
    }
