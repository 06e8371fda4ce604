"""The memory transport answers as Redis does: the same commands to both, the same answers from both."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from fastq.memory.server import MemoryServer
from fastq.results.redis import SCRIPT
from fastq.transport.connect import Endpoint
from fastq.transport.redis.keys import Keys
from fastq.transport.redis.slots import SWEEP, Holding, Slots, sweep_words
from tests.eventually import eventually
from tests.fix_redis import Database

pytestmark = pytest.mark.fastq_only


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MemoryServer]:
    found = MemoryServer(str(tmp_path / "sock"))
    thread = threading.Thread(target=found.serve)
    thread.start()
    yield found
    found.stop()
    thread.join()
    found.close()


@contextlib.contextmanager
def connected(url: str) -> Iterator[redis.Redis]:
    """A client, and its connections closed after it."""
    client = Endpoint.parse(url).client()
    yield client
    client.close()
    client.connection_pool.disconnect()


@pytest.fixture
def memory(server: MemoryServer) -> Iterator[redis.Redis]:
    with connected(server.url) as client:
        yield client


@pytest.fixture
def real(db: Database) -> Iterator[redis.Redis]:
    with connected(db.url) as client:
        yield client


@pytest.fixture(params=["memory", "real"])
def each(request: pytest.FixtureRequest) -> Any:
    """First the one, then the other."""
    return request.getfixturevalue(request.param)


#: One line each: words, or a list of lines that are a transaction.
TRANSCRIPT = """
SET a 1 EX 100
SET a 2 NX
SET a 3 XX GET
GET a
TTL a
INCR a
SETEX b 50 text
GET nothing
MGET a nothing b
EXISTS a b nothing
TYPE a
LPUSH l 1 2 3
RPUSH l 4
LRANGE l 0 -1
LRANGE l -2 100
LRANGE l 5 9
LINDEX l -1
LINDEX l 9
LSET l 0 x
LSET l 9 x
LSET nothing 0 x
LPOS l 2
LPOS l 4 MAXLEN 2
LMOVE l m RIGHT LEFT
LMOVE nothing m RIGHT LEFT
LPUSH l x x
LREM l 2 x
LREM l -1 1
LTRIM l 0 0
LLEN l
LLEN nothing
RPOP l
RPOP l
EXISTS l
TYPE m
GET m
LPUSH a 1
HSET h f 1 g 2
HSET h f 3
HGET h f
HMGET h g nothing
HGETALL h
HEXISTS h g
HLEN h
HDEL h f g nothing
EXISTS h
SADD s b a
SADD s a
SMEMBERS s
SISMEMBER s a
SCARD s
SREM s a c
ZADD z 2 two 1 one
ZADD z 3 two
ZSCORE z two
ZRANGE z 0 -1 WITHSCORES
ZRANGE z 3 0 BYSCORE REV LIMIT 0 1
ZRANGEBYSCORE z -inf 2
ZCARD z
ZREM z one two
ZADD z 1 a 2 b 3 c 4 d
ZREMRANGEBYSCORE z -inf 1
ZREMRANGEBYRANK z 0 -3
ZREMRANGEBYRANK z 0 -9
ZREMRANGEBYSCORE nothing -inf 1
ZRANGE z 0 -1
DEL z
EXPIRE b 0
EXISTS b
EXPIRE nothing 5
PING
ECHOES x
LPUSH
DEL a m s
KEYS *
"""


def say(client: redis.Redis, *words: str) -> Any:
    """What is answered, as it is sent: redis-py's own conversions left out."""
    connection: Any = client.connection_pool.get_connection()
    connection.send_command(*words)
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return f"error {type(error).__name__}"
    finally:
        client.connection_pool.release(connection)


def test_answers_are_those_of_redis(memory: redis.Redis, real: redis.Redis) -> None:
    for line in TRANSCRIPT.strip().splitlines():
        words = line.split()
        ours, theirs = say(memory, *words), say(real, *words)
        if words[0] == "SMEMBERS":
            ours, theirs = sorted(ours), sorted(theirs)
        assert ours == theirs, line


def test_transactions_hold_only_if_nobody_has_touched_what_was_watched(memory: redis.Redis) -> None:
    asked: Any = memory
    with asked.pipeline(transaction=True) as pipe:
        pipe.watch("k")
        asked.set("k", 1)
        pipe.multi()
        pipe.set("k", 2)
        with pytest.raises(redis.WatchError):
            pipe.execute()
    with asked.pipeline(transaction=True) as pipe:
        pipe.set("k", 3).get("k").llen("k")
        assert pipe.execute(raise_on_error=False)[:2] == [True, b"3"]


def test_who_waits_gets_what_comes(memory: redis.Redis, server: MemoryServer) -> None:
    found: list[Any] = []
    waiter = Endpoint.parse(server.url).client()
    thread = threading.Thread(target=lambda: found.append(waiter.blmove("q", "claimed", 5, "RIGHT", "LEFT")))
    thread.start()
    eventually(lambda: bool(server._parked), saying="somebody waits")
    memory.lpush("q", "one", "two")
    thread.join()
    assert found == [b"one"]
    assert memory.lrange("claimed", 0, -1) == [b"one"]
    assert memory.brpop(["none", "q"], timeout=1) == (b"q", b"two")
    assert memory.blmove("q", "claimed", 1) is None
    waiter.close()
    waiter.connection_pool.disconnect()


def test_subscribers_hear_what_is_published(memory: redis.Redis) -> None:
    listener: Any = memory.pubsub(ignore_subscribe_messages=True)
    listener.subscribe("c")
    listener.psubscribe("d*")
    eventually(lambda: memory.execute_command("PUBSUB", "NUMSUB", "c") == [b"c", 1], saying="subscribed")
    assert memory.publish("c", "one") == 1
    assert memory.publish("deep", "two") == 1
    heard: list[Any] = []

    def all_heard() -> bool:
        heard.extend(filter(None, [listener.get_message(timeout=0.1)]))
        return len(heard) == 2

    eventually(all_heard, saying="both were heard")
    assert [message["data"] for message in heard] == [b"one", b"two"]
    listener.close()


def test_our_scripts_do_in_python_what_they_do_in_lua(memory: redis.Redis, db: Database) -> None:
    success, failure = '{"status": "SUCCESS", "x": 1}', '{"status": "FAILURE", "date_done": "2026-01-02"}'
    for steps in (
        [(success, "0", ""), (failure, "0", "")],
        [(failure, "9", ""), ('{"status": "RETRY"}', "0", "2026-01-01")],
        [(failure, "9", ""), ('{"status": "RETRY"}', "0", "2026-01-03")],
    ):
        for client in (memory, db.client):
            client.delete("r")
        for value, expires, began in steps:
            ours, theirs = (
                client.eval(SCRIPT.decode(), 1, "r", value, expires, began) for client in (memory, db.client)
            )
            assert ours == theirs
        assert memory.get("r") == db.client.get("r")
        assert memory.ttl("r") == db.client.ttl("r")


def say_packed(client: redis.Redis, command: bytes) -> Any:
    """What is answered to a command as it goes over the wire."""
    connection: Any = client.connection_pool.get_connection()
    try:
        connection.send_packed_command([command])
        return connection.read_response()
    finally:
        client.connection_pool.release(connection)


def test_slots_of_the_dead_and_of_lost_messages_are_given_on(each: Any) -> None:
    keys, at = Keys(), Slots(Keys(), "t", "k")

    def take(attempt: str, worker: bytes) -> Any:
        command = at.take(attempt, most=2, worker=worker, queue="slot-queue", message=attempt.encode())
        return say_packed(each, command)

    for worker in ("a", "b"):
        each.set(keys.heartbeat(worker), 1)
    assert [take("1", b"a"), take("2", b"b"), take("3", b"b"), take("4", b"b"), take("3", b"b")] == [0, 0, 1, 2, 2]
    assert take("2", b"b") == 0  # asked again: it has its slot
    say_packed(each, at.free("2", worker=b"b"))
    assert each.lrange("slot-queue", 0, -1) == [b"3"]
    assert take("5", b"b") == 2  # behind 4, while a slot is kept for 3
    each.delete(keys.heartbeat("a"))
    each.zadd(keys.slots, {at.base: 0})
    assert each.eval(SWEEP, *sweep_words(keys)) == [b"t", b"1"]  # 5 waits
    assert each.lrange("slot-queue", 0, -1) == [b"3", b"4"]
    each.hset(f"{at.base}:running", "3", "@1")  # its message is gone, and its time is over
    assert take("6", b"b") == 1  # behind 5, which gets the slot
    assert each.lrange("slot-queue", 0, -1) == [b"3", b"4", b"5"]
    for attempt in ("4", "5", "6"):
        say_packed(each, at.free(attempt, worker=b"b"))
    assert not each.keys("fastq:slots*")
    assert each.lrange("slot-queue", 0, -1) == [b"3", b"4", b"5", b"6"]


def test_a_slot_is_given_back_by_who_has_it_or_for_the_dead(each: Any) -> None:
    keys, at = Keys(), Slots(Keys(), "t", "k")
    for worker in ("a", "b"):
        each.set(keys.heartbeat(worker), 1)

    def take(attempt: str, worker: bytes) -> Any:
        return say_packed(each, at.take(attempt, most=1, worker=worker, queue="q", message=b"m"))

    def holders() -> dict[bytes, bytes]:
        return {attempt: Holding.read(text).worker for attempt, text in each.hgetall(f"{at.base}:running").items()}

    assert [take("1", b"a"), take("1", b"b")] == [0, 0]  # a was cut off, and b runs the same attempt again
    say_packed(each, at.free("1", worker=b"a"))
    assert holders() == {b"1": b"b"}
    each.delete(keys.heartbeat("b"))
    say_packed(each, at.free("1", worker=b"a"))
    assert not holders()


def test_those_who_wait_can_be_dropped_by_deleting_their_messages(each: Any) -> None:
    keys = Keys()
    each.set(keys.heartbeat("a"), 1)
    for key in ("k", "l"):
        for attempt in ("1", "2", "3"):
            take = Slots(keys, "t", key).take(attempt, most=1, worker=b"a", queue="q", message=b"m")
            say_packed(each, take)
        each.zadd(keys.slots, {Slots(keys, "t", key).base: 0})
    assert each.hgetall(f"{keys.slots}:waiting") == {b"t": b"4"}
    each.delete(f"{keys.slots}:t:k:messages")
    assert each.eval(SWEEP, *sweep_words(keys)) == [b"t", b"2"]
    each.delete(f"{keys.slots}:t:l:messages")
    each.zadd(keys.slots, {Slots(keys, "t", "l").base: 0})
    assert each.eval(SWEEP, *sweep_words(keys)) == []
    assert sorted(each.keys("fastq:slots*")) == [b"fastq:slots:t:k:running", b"fastq:slots:t:l:running"]


def test_a_script_of_somebody_else_is_refused(memory: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError, match="only scripts that it knows"):
        memory.eval("return 1", 0)


def test_databases_are_apart(server: MemoryServer) -> None:
    with connected(f"{server.url[:-1]}0") as one, connected(f"{server.url[:-1]}3") as other:
        one.set("k", 1)
        assert other.get("k") is None
