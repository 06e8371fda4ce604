"""The producer against a real Redis, with Celery as the other end."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from celery import Celery

from fastq.errors import TaskError
from fastq.producer import AsyncProducer, Producer
from tests.fix_redis import Database

#: Celery 5.7 stores results by a method that redis-py 8 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

ETA = datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)

#: Sends as both clients can make them. Relative times differ by when they are made and have unit tests.
SENDS: list[dict[str, Any]] = [
    {},
    {"queue": "other", "priority": 7},
    {"eta": ETA, "expires": datetime(2000, 1, 1, tzinfo=timezone.utc)},
    {"headers": {"trace": "x"}, "time_limit": 3, "soft_time_limit": 1.5},
    {"shadow": "name", "ignore_result": True, "root_id": "r", "parent_id": "p", "retries": 2},
    {"group_id": "g", "group_index": 4, "reply_to": "me"},
]


@pytest.fixture
def app(db: Database) -> Iterator[Celery]:
    """A Celery client that knows the task by name only, as our producer does."""
    client = Celery("client", broker=db.url, backend=db.url, set_as_current=False)
    yield client
    client.close()


def without_chance(entry: bytes) -> bytes:
    """The envelope with what differs between any two sends taken out, its bytes otherwise as they are."""
    message = json.loads(entry)
    chance = [message["properties"][name] for name in ("delivery_tag", "reply_to")]
    for value in [message["headers"]["id"], message["headers"]["origin"], *chance]:
        entry = entry.replace(value.encode(), b"*")
    return entry


@pytest.mark.parametrize("options", SENDS)
def test_both_clients_write_the_same(db: Database, app: Celery, options: dict[str, Any]) -> None:
    args, kwargs = [1, "zwei", None], {"three": {"x": [1.5]}}
    app.send_task("t.add", args, kwargs, **options)
    with Producer(db.url) as producer:
        producer.send("t.add", args, kwargs, **options)
    (key,) = (key for key in list(db.keys()) if not key.startswith("_kombu"))
    theirs, ours = db.entries(key)
    assert without_chance(ours) == without_chance(theirs)


def test_many_are_sent_in_order_with_their_ids(db: Database) -> None:
    with Producer(db.url, ignore_result=True) as producer:
        ids = producer.send_many("t.add", (((n,), None) for n in range(1234)), chunk=100)
    assert [json.loads(entry)["headers"]["id"] for entry in db.entries()] == ids
    assert [json.loads(entry)["headers"]["argsrepr"] for entry in db.entries()[:2]] == ["(0,)", "(1,)"]


def test_chunks_come_as_they_are_sent(db: Database) -> None:
    with Producer(db.url) as producer:
        seen = [(len(ids), db.length()) for ids in producer.send_chunks("t.add", [((), None)] * 5, chunk=2)]
    assert seen == [(2, 2), (2, 4), (1, 5)]


def test_a_result_is_waited_for(db: Database, app: Celery) -> None:
    with Producer(db.url) as producer:
        handle = producer.send("t.add", (1, 2))
        assert handle.outcome().status == "PENDING"
        store = app.backend.store_result
        timer = threading.Timer(0.2, store, (handle.id, {"sum": 3, "at": ETA}, "SUCCESS"))
        timer.start()
        assert handle.get(timeout=10) == {"sum": 3, "at": ETA}
        timer.join()
        assert handle.get(timeout=0) == {"sum": 3, "at": ETA}


def test_a_failure_is_raised_with_what_is_known(db: Database, app: Celery) -> None:
    with Producer(db.url) as producer:
        handle = producer.send("t.add")
        app.backend.store_result(handle.id, ValueError("odd"), "FAILURE", traceback="Traceback ...")
        with pytest.raises(TaskError, match=r"FAILURE: ValueError\('odd',\)") as caught:
            handle.get(timeout=1)
    assert caught.value.evidence["task_id"] == handle.id


def test_a_result_that_does_not_come_times_out(db: Database) -> None:
    with Producer(db.url) as producer, pytest.raises(TimeoutError, match="no result after"):
        producer.send("t.add").get(timeout=0.1)


def test_the_async_twin_does_the_same(db: Database, app: Celery) -> None:
    async def scenario() -> None:
        async with AsyncProducer(db.url) as producer:
            many = await producer.send_many("t.add", [((n,), None) for n in range(5)], chunk=2)
            assert [json.loads(entry)["headers"]["id"] for entry in db.entries()] == many
            handle = await producer.send("t.add", (1,))
            with pytest.raises(TimeoutError):
                await handle.get(timeout=0.05)
            waiting = asyncio.create_task(handle.get(timeout=10))
            await asyncio.sleep(0.05)
            app.backend.store_result(handle.id, 7, "SUCCESS")
            assert await waiting == 7

    asyncio.run(scenario())
