"""What stock workers left in `unacked` comes back by kombu's rules; bindings are kombu's."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from fastq.transport.redis.binding import Binding, declare_bindings, find_queues
from fastq.transport.redis.keys import Keys
from fastq.transport.redis.recover import recover_all
from fastq.transport.redis.unacked import restore_unacked
from tests.fix_redis import Database

#: The stock library, which has no types.
kombu: Any = pytest.importorskip("kombu")

KEYS = Keys()


def envelope(name: str, *, priority: object = 0, **more: Any) -> dict[str, Any]:
    properties = {
        "delivery_info": {"exchange": "", "routing_key": "celery"},
        "priority": priority,
        "delivery_tag": name,
    }
    return {"body": "W10=", "headers": {"task": "t.add", "id": name, **more}, "properties": properties}


def leave(
    db: Database,
    name: str,
    *,
    age_s: float,
    exchange: str = "",
    routing_key: str = "celery",
    keys: Keys = KEYS,
    **more: Any,
) -> None:
    """What a stock worker leaves of a message it took `age_s` ago."""
    held = json.dumps([envelope(name, **more), exchange, routing_key])
    db.client.hset(keys.unacked, name, held)
    db.client.zadd(keys.unacked_index, {name: time.time() - age_s})


def restore(db: Database, *, keys: Keys = KEYS, **more: Any) -> int:
    return restore_unacked(db.client, keys=keys, visibility_timeout_s=100, **more)


def ids(entries: Sequence[bytes]) -> list[str]:
    return [json.loads(entry)["headers"]["id"] for entry in entries]


def held(db: Database, *, keys: Keys = KEYS) -> int:
    client: Any = db.client
    assert client.hlen(keys.unacked) == client.zcard(keys.unacked_index)
    return int(client.hlen(keys.unacked))


def test_what_is_overdue_comes_back_in_order_before_all_others(db: Database) -> None:
    db.client.lpush("celery", json.dumps(envelope("waiting")))
    for age_s in (300, 200, 150, 50):
        leave(db, f"aged-{age_s}", age_s=age_s)
    assert restore(db) == 3
    assert ids(db.entries()) == ["aged-300", "aged-200", "aged-150", "waiting"]
    assert held(db) == 1
    assert not db.client.exists(KEYS.unacked_mutex)


def test_restored_messages_are_marked_and_have_new_tags(db: Database) -> None:
    leave(db, "one", age_s=200, nan=float("nan"), surrogate="\ud800")
    restore(db)
    message = json.loads(db.entries()[0])
    assert message["headers"]["redelivered"]
    assert message["properties"]["delivery_info"]["redelivered"]
    assert message["properties"]["delivery_tag"] != "one"
    assert message["headers"]["surrogate"] == "\ud800"


@pytest.mark.parametrize(
    ("priority", "key"), [(0, "celery"), (5, "celery\x06\x163"), ("high", "celery"), (255, "celery\x06\x169")]
)
def test_the_priority_decides_the_list(db: Database, priority: object, key: str) -> None:
    leave(db, "one", age_s=200, priority=priority)
    restore(db)
    assert ids(db.entries(key)) == ["one"]


def test_names_and_prefix_follow_the_transport_options(db: Database) -> None:
    keys = Keys.from_options(
        {"global_keyprefix": "p:", "unacked_key": "u", "unacked_index_key": "ui", "unacked_mutex_key": "um"}
    )
    leave(db, "one", age_s=200, keys=keys)
    assert restore(db, keys=keys) == 1
    assert ids(db.entries("p:celery")) == ["one"]
    assert db.keys() == ["p:celery"]


def test_somebody_else_restoring_is_left_alone(db: Database) -> None:
    leave(db, "one", age_s=200)
    db.client.set(KEYS.unacked_mutex, "token", px=300_000)
    assert restore(db) == 0
    assert db.client.get(KEYS.unacked_mutex) == b"token"
    db.client.delete(KEYS.unacked_mutex)
    assert restore(db) == 1


def test_a_limit_is_obeyed(db: Database) -> None:
    for n in range(10):
        leave(db, f"m{n}", age_s=200 + n)
    assert restore(db, limit=4) == 4
    assert held(db) == 6


def test_a_tag_without_a_message_is_forgotten(db: Database) -> None:
    db.client.zadd(KEYS.unacked_index, {"stale": 1})
    assert restore(db) == 0
    assert not db.keys()


def test_what_leads_nowhere_stays_and_holds_up_nobody(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    leave(db, "lost", age_s=200, exchange="nowhere")
    leave(db, "no-key", age_s=201, routing_key="")
    leave(db, "one", age_s=300)
    db.client.hset(KEYS.unacked, "broken", "[1")
    db.client.zadd(KEYS.unacked_index, {"broken": 1})
    assert restore(db) == 1
    assert ids(db.entries()) == ["one"]
    assert held(db) == 3
    assert "'nowhere' has no queue bound" in caplog.text
    assert "b'broken'" in caplog.text


def test_many_that_stay_do_not_hide_the_others(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastq.transport.redis.unacked._PAGE", 3)
    for n in range(8):
        leave(db, f"stays-{n}", age_s=200 + n, exchange="nowhere")
        leave(db, f"goes-{n}", age_s=200.5 + n)
    assert restore(db) == 8
    assert held(db) == 8


def test_a_dead_letter_queue_takes_what_leads_nowhere(db: Database) -> None:
    keys = Keys.from_options({"deadletter_queue": "dead"})
    leave(db, "lost", age_s=200, exchange="nowhere")
    assert restore(db, keys=keys) == 1
    assert ids(db.entries("dead")) == ["lost"]


def test_a_queue_of_another_type_loses_nothing(db: Database) -> None:
    db.client.set("celery", "no list")
    leave(db, "one", age_s=200)
    assert restore(db) == 0
    assert held(db) == 1


def test_recover_all_obeys_a_given_visibility_timeout_only(db: Database) -> None:
    leave(db, "one", age_s=5000)
    assert recover_all(db.url).unacked is None
    assert recover_all(db.url, {"visibility_timeout": 6000}).unacked == 0
    report = recover_all(db.url, {"visibility_timeout": 4000})
    assert report.unacked == 1
    assert "1 put back after their visibility timeout" in str(report)


# Beside kombu itself


@pytest.fixture
def connection(db: Database) -> Iterator[Any]:
    """A stock client on the test's database."""
    with kombu.Connection(db.url) as connection:
        yield connection


def queues() -> list[Any]:
    topic, direct, fanout = (kombu.Exchange(f"x-{kind}", type=kind) for kind in ("topic", "direct", "fanout"))
    return [
        kombu.Queue("q-topic", topic, routing_key="a-b.*.#"),
        kombu.Queue("q-topic2", topic, routing_key="*.c_d"),
        kombu.Queue("q-direct", direct, routing_key="exactly.this"),
        kombu.Queue("q-fanout", fanout, routing_key=""),
    ]


def members(db: Database) -> dict[str, Any]:
    names = db.keys()
    return {name: db.client.smembers(name) for name in names}


def test_bindings_are_those_that_kombu_declares(db: Database, connection: Any) -> None:
    made = [Binding(q.exchange.name, q.exchange.type, q.routing_key, q.name) for q in queues()]
    declare_bindings(db.client, made, keys=KEYS)
    ours = members(db)
    db.client.flushdb()
    for queue in queues():
        queue(connection.default_channel).declare()
    assert ours == members(db)
    assert len(ours) == 6


@pytest.mark.parametrize(
    ("exchange", "routing_key", "found"),
    [
        ("x-topic", "a-b.one.two", ["q-topic"]),
        ("x-topic", "a-b.c_d", ["q-topic2"]),
        ("x-topic", "other", []),
        ("x-direct", "exactly.this", ["q-direct"]),
        ("x-direct", "exactly-this", []),
        ("nowhere", "q-direct", []),
        ("", "anything", ["anything"]),
    ],
)
def test_messages_lead_where_kombu_would_send_them(
    db: Database, connection: Any, exchange: str, routing_key: str, found: list[str]
) -> None:
    for queue in queues():
        queue(connection.default_channel).declare()
    assert find_queues(db.client, exchange, routing_key=routing_key, keys=KEYS) == found
    assert sorted(connection.default_channel._lookup(exchange, routing_key)) == found


def test_what_a_stock_consumer_took_comes_back_and_can_be_read_again(db: Database, connection: Any) -> None:
    topic = queues()[0]
    producer = connection.Producer()
    producer.publish(["one"], exchange=topic.exchange, routing_key="a-b.x.y", declare=[topic], priority=4)
    channel = connection.channel()
    taken = topic(channel).get(no_ack=False)
    assert taken is not None
    assert held(db) == 1
    # A worker that never declared the exchange restores it, which loses it in kombu.
    assert restore_unacked(db.client, keys=KEYS, visibility_timeout_s=0) == 1
    assert held(db) == 0
    again = topic(channel).get(no_ack=False)
    assert again.payload == ["one"]
    assert again.delivery_info["redelivered"]
    assert again.delivery_tag != taken.delivery_tag
    taken.ack()  # the old delivery's late acknowledgement does not touch the new one
    assert held(db) == 1
    again.ack()
    assert held(db) == 0
