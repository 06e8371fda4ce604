"""wire="fastq" in a native application: tasks, results, retries and what is not plain."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from fastq import FastQ
from fastq.wire.packed import MAGIC, pack
from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab

NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.timezone.utc)


pytestmark = pytest.mark.fastq_only


@pytest.fixture
def sent(shop: Lab) -> Iterator[Any]:
    """Sends a task of the native application and waits for its value."""
    app = FastQ("sender", broker=shop.db.url, backend=shop.db.url, wire="fastq", task_default_queue="celery")
    yield lambda name, *args, **options: app.send_task(f"tests.apps.native.{name}", args, **options).get(RESULT_S)
    app.close()


def test_values_and_types_arrive(sent: Any) -> None:
    assert sent("add", 1, 2) == 3
    assert sent("loose", uuid.UUID(int=7), b"\xff") == [uuid.UUID(int=7), b"\xff"]
    items = [{"name": "tea", "price": Decimal("1.10")}, {"name": "cup", "price": "2"}]
    assert sent("total", items, NOON)["price"] in ("3.10", Decimal("3.10"))


def test_retries_and_times(sent: Any) -> None:
    assert sent("flaky", 2) == 2
    assert sent("add", 1, 2, countdown=0.2, time_limit=20) == 3


@pytest.mark.parametrize(("wire", "begins"), [("fastq", MAGIC), ("celery", b"{")])
def test_the_application_chooses_the_wire(shop: Lab, wire: Any, begins: bytes) -> None:
    app = FastQ("sender", broker=shop.db.url, task_default_queue="unread", wire=wire)
    app.send_task("t.add", (1, 2))
    app.close()
    (raw,) = shop.db.entries("unread")
    assert raw.startswith(begins)
    shop.db.client.delete("unread")


def test_what_is_damaged_is_put_aside(shop: Lab) -> None:
    whole = pack("tests.apps.native.add", (1, 2), task_id=str(uuid.uuid4()), queue="celery")
    shop.db.client.lpush("celery", whole[:-1], MAGIC, whole[:-4] + b"\x91\xa1\xff\x80")
    eventually(lambda: shop.db.length("fastq:dead:{celery}") == 2)
    shop.db.client.delete("fastq:dead:{celery}")
    eventually(shop.idle)
    assert shop.workers[0].alive
