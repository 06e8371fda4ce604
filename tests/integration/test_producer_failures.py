"""What a producer says, and what is in Redis, when Redis is full, a replica, closed to us, cut off or away."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastq import FastQ
from fastq.errors import (
    AccessDenied,
    BrokerError,
    BrokerFull,
    BrokerReadOnly,
    BrokerUnavailable,
    ConnectionCut,
    NotConfirmed,
    OptionError,
    ResultsUnavailable,
)
from fastq.producer import AsyncProducer, Producer, Replicas
from tests.eventually import eventually
from tests.fix_proxy import Proxy
from tests.fix_redis import Database, RedisServer, free_port

#: How both producers send one task: the tests of errors are the same for them.
Send = Callable[..., str]


def send_sync(url: str, **settings: Any) -> str:
    """Send one task and return its id."""
    with Producer(url, **settings) as producer:
        return producer.send("t.add", (1, 2)).id


def send_async(url: str, **settings: Any) -> str:
    """The same with an event loop."""

    async def send() -> str:
        async with AsyncProducer(url, **settings) as producer:
            return (await producer.send("t.add", (1, 2))).id

    return asyncio.run(send())


@pytest.fixture(params=[send_sync, send_async], ids=["sync", "async"])
def send(request: pytest.FixtureRequest) -> Send:
    """Each of the two."""
    found: Send = request.param
    return found


def ids(db: Database) -> list[str]:
    """Ids of the messages in the queue, in the order in which they were sent."""
    return [json.loads(entry)["headers"]["id"] for entry in db.entries()]


@pytest.fixture(scope="module")
def odd_server() -> Iterator[RedisServer]:
    """A server whose settings tests may change, and put back."""
    server = RedisServer(password="secret")
    server.start()
    yield server
    server.remove()


def test_a_full_redis_is_named_and_nothing_was_sent(odd_server: RedisServer, send: Send) -> None:
    client = odd_server.client()
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(BrokerFull, match="out of memory") as caught:
            send(odd_server.url())
    finally:
        client.config_set("maxmemory", "0")
    assert len(caught.value.unsent_ids) == 1
    assert not caught.value.sent_ids + caught.value.unknown_ids
    assert "secret" not in str(caught.value)
    assert client.llen("celery") == 0
    client.close()


def test_a_replica_is_named(odd_server: RedisServer, send: Send) -> None:
    client = odd_server.client()
    client.execute_command("REPLICAOF", "127.0.0.1", free_port())
    try:
        with pytest.raises(BrokerReadOnly, match="read-only replica; name its primary in broker_url") as caught:
            send(odd_server.url(), retries=1)
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")
    assert len(caught.value.unsent_ids) == 1
    client.close()


@pytest.mark.parametrize("who", ["", ":wrong@", "nobody:wrong@"])
def test_a_wrong_password_is_named_and_not_shown(odd_server: RedisServer, send: Send, who: str) -> None:
    with pytest.raises(AccessDenied, match="does not accept this user and password") as caught:
        send(f"redis://{who}127.0.0.1:{odd_server.port}/0")
    assert len(caught.value.unsent_ids) == 1
    assert "wrong" not in str(caught.value).split("correct them")[0]


def test_a_missing_permission_is_named(odd_server: RedisServer, send: Send) -> None:
    client = odd_server.client()
    client.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+ping")
    with pytest.raises(AccessDenied, match="does not let this user do that") as caught:
        send(f"redis://reader:pw@127.0.0.1:{odd_server.port}/0")
    assert "lpush" in str(caught.value)
    assert ":pw" not in str(caught.value)
    client.close()


def test_a_redis_that_is_away_is_named(send: Send) -> None:
    with pytest.raises(BrokerUnavailable, match="cannot be reached") as caught:
        send(f"redis://127.0.0.1:{free_port()}/0", retries=1)
    assert not isinstance(caught.value, ConnectionCut)
    assert len(caught.value.unsent_ids) == 1


def test_a_connection_that_was_lost_while_idle_is_replaced(db: Database, proxy: Proxy) -> None:
    with Producer(proxy.url(number=db.number), retries=0) as producer:
        first = producer.send("t.add")
        proxy.cut()
        second = eventually(lambda: _try(producer), saying="the closed connection has been noticed")
        assert ids(db) == [first.id, second]


def _try(producer: Producer) -> str:
    """Send; the reset may not have come yet, so the first try may be in doubt and is then looked for."""
    try:
        return producer.send("t.add").id
    except ConnectionCut:
        return ""


def test_a_send_in_doubt_is_found_and_not_sent_twice(db: Database, proxy: Proxy, send: Send) -> None:
    proxy.cut_answer_to(b"LPUSH")
    task_id = send(proxy.url(number=db.number))
    assert ids(db) == [task_id]


def test_a_send_in_doubt_whose_message_is_gone_is_sent_again_with_its_id(
    db: Database, proxy: Proxy, send: Send
) -> None:
    proxy.cut_answer_to(b"LPUSH")
    taken: list[Any] = []
    worker = threading.Thread(target=lambda: taken.append(db.client.brpop(["celery"], timeout=10)))
    worker.start()
    task_id = send(proxy.url(number=db.number))
    worker.join()
    assert [json.loads(taken[0][1])["headers"]["id"]] == [task_id]
    assert ids(db) in ([], [task_id])  # nobody can tell whether the worker was faster than the question


def test_what_was_never_answered_is_unknown(db: Database, proxy: Proxy, send: Send) -> None:
    proxy.cut_answer_to(b"LPUSH", times=9)
    with pytest.raises(ConnectionCut, match="1 written without an answer: they may have been sent") as caught:
        send(proxy.url(number=db.number), retries=0)
    assert ids(db) == list(caught.value.unknown_ids)


def test_a_silent_redis_is_given_up_in_time(db: Database, proxy: Proxy, send: Send) -> None:
    proxy.cut_answer_to(b"never")
    proxy.delay(one_way_ms=400)
    with pytest.raises(BrokerUnavailable):
        send(proxy.url(number=db.number), retries=0, timeout_s=0.2)


@pytest.mark.parametrize("make", [Producer, AsyncProducer])
def test_of_many_chunks_those_that_were_sent_are_known(db: Database, proxy: Proxy, make: Any) -> None:
    many = [((n,), None) for n in range(10)]

    def some() -> Iterator[tuple[tuple[int, ...], None]]:
        for n, each in enumerate(many):
            if n == 4:
                proxy.refuse()
                proxy.cut()
            yield each

    with pytest.raises(BrokerError, match="; 3 were sent before") as caught:
        send_many(make, proxy.url(number=db.number), some())
    assert list(caught.value.sent_ids) == ids(db)
    assert len(caught.value.unsent_ids + caught.value.unknown_ids) == 3


def send_many(make: Any, url: str, many: Iterator[Any]) -> None:
    """Send in chunks of three."""

    async def send() -> None:
        async with AsyncProducer(url, retries=0) as producer:
            await producer.send_many("t.add", many, chunk=3)

    if make is AsyncProducer:
        return asyncio.run(send())
    with Producer(url, retries=0) as producer:
        producer.send_many("t.add", many, chunk=3)
    return None


def test_replicas_confirm(odd_server: RedisServer) -> None:
    client = odd_server.client()
    client.delete("celery")
    replica = RedisServer("--replicaof", "127.0.0.1", str(odd_server.port), "--masterauth", "secret")
    replica.start()
    try:
        eventually(
            lambda: client.info("replication").get("slave0", {}).get("state") == "online", saying="the replica follows"
        )
        for send in (send_sync, send_async):
            assert send(odd_server.url(), confirm=Replicas(1, timeout_s=5))
            with pytest.raises(NotConfirmed, match="1 of 2 replicas") as caught:
                send(odd_server.url(), confirm=Replicas(2, timeout_s=0.05))
            assert len(caught.value.sent_ids) == 1
            assert not caught.value.unsent_ids
    finally:
        replica.remove()
    assert client.llen("celery") == 4
    client.close()


def test_what_cannot_be_a_message_is_refused_before_it_is_sent(db: Database) -> None:
    with Producer(db.url, result_url="") as producer:
        with pytest.raises(OptionError, match="eta='tomorrow' is no time"):
            producer.send("t.add", eta="tomorrow")
        with pytest.raises(TypeError, match=r"pairs \(args, kwargs\).*not \(1,\)"):
            producer.send_many("t.add", [(1,), (2,)])  # type: ignore[list-item]
        with pytest.raises(TypeError, match=r"must be a mapping, not \[1\]"):
            producer.send("t.add", (), [1])  # type: ignore[arg-type]
        assert db.length("celery") == 0


def test_nobody_waits_for_results_that_nobody_stores(db: Database) -> None:
    with Producer(db.url, result_url="") as producer:
        handle = producer.send("t.add")
        for look in (handle.get, handle.ready):
            with pytest.raises(ResultsUnavailable, match="stores no results"):
                look()

    async def wait() -> None:
        app = FastQ("silent", broker=db.url)
        with pytest.raises(ResultsUnavailable, match="stores no results"):
            await (await app.async_producer.send("t.add")).get()
        await app.async_producer.close()

    asyncio.run(wait())
