"""What a dead worker held is back on its queues: in order, marked, none lost, none twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Container, Sequence
from typing import Any

import msgspec
import pytest

from fastq.errors import BrokerRefused, BrokerUnavailable
from fastq.transport.redis import recover
from fastq.transport.redis.keys import Keys
from fastq.transport.redis.recover import Restored, recover_all, restore_worker
from fastq.transport.redis.registry import RegistryEntry, dead_workers, describe_process
from tests.fix_redis import Database, RedisServer, free_port

KEYS = Keys()


def envelope(name: object, *, priority: int = 0) -> bytes:
    properties = {"delivery_info": {"exchange": "", "routing_key": "celery"}, "priority": priority}
    headers = {"task": "t.add", "id": str(name)}
    return json.dumps(
        {"body": "W10=", "headers": headers, "properties": {**properties, "delivery_tag": "old"}}
    ).encode()


def ids(entries: Sequence[bytes]) -> list[str]:
    return [json.loads(entry)["headers"]["id"] for entry in entries]


class Held:
    """A worker of another host that died holding messages."""

    def __init__(
        self, db: Database, *, keys: Keys = KEYS, queue_keys: Sequence[str] = ("celery",), **more: Any
    ) -> None:
        self.db, self.keys = db, keys
        self.client: Any = db.client
        self.entry = RegistryEntry(worker="w@far-00000001", node="w@far", host="far", keys=tuple(queue_keys), **more)
        self.client.hset(keys.workers, self.entry.worker, self.entry.encode())
        self.client.set(keys.flush(self.entry.worker), 7)

    def claim(self, queue_key: str, number: int, messages: Sequence[bytes]) -> None:
        """Send and claim messages as an engine does."""
        waiting = self.keys.waiting(queue_key)
        claim = self.keys.claim(queue_key, self.entry.worker, number=number)
        for message in messages:
            self.client.lpush(waiting, message)
        for _ in messages:
            self.client.lmove(waiting, claim, "RIGHT", "LEFT")
        self.client.sadd(self.keys.claims(queue_key, self.entry.worker), number)

    def settle(self, queue_key: str, number: int, position: int) -> None:
        claim = self.keys.claim(queue_key, self.entry.worker, number=number)
        self.client.lset(claim, -(position + 1), "")

    def beat(self) -> None:
        self.client.set(self.keys.heartbeat(self.entry.worker), "1", ex=10)

    def restore(self, started: recover.Started | None = None) -> Restored:
        return restore_worker(self.client, self.entry, keys=self.keys, started=started)

    def nothing_is_left(self) -> bool:
        return not self.db.keys(self.keys.prefix + "fastq:*")


def test_messages_come_back_before_all_others_in_their_order(db: Database) -> None:
    held = Held(db)
    held.claim("celery", 1, [envelope(n) for n in range(3)])
    held.claim("celery", 2, [envelope(n) for n in range(3, 5)])
    db.client.lpush("celery", envelope("later"))
    assert held.restore().restored == 5
    assert ids(db.entries()) == ["0", "1", "2", "3", "4", "later"]
    assert held.nothing_is_left()


def test_they_are_marked_and_have_tags_of_their_own(db: Database) -> None:
    held = Held(db)
    held.claim("celery", 1, [envelope(n) for n in range(5)])
    held.restore()
    found = [json.loads(entry) for entry in db.entries()]
    assert all(entry["headers"]["redelivered"] for entry in found)
    assert all(entry["properties"]["delivery_info"]["redelivered"] for entry in found)
    assert len({entry["properties"]["delivery_tag"] for entry in found} - {"old"}) == 5


def test_settled_messages_stay_settled(db: Database) -> None:
    held = Held(db)
    held.claim("celery", 1, [envelope(n) for n in range(6)])
    for position in (0, 2, 5):
        held.settle("celery", 1, position)
    assert held.restore().restored == 3
    assert ids(db.entries()) == ["1", "3", "4"]


def test_what_was_started_under_early_acknowledgement_is_not_run_again(db: Database) -> None:
    held = Held(db)
    held.claim("celery", 4, [envelope(n) for n in range(4)])
    held.claim("celery", 5, [envelope("other")])
    started: set[tuple[str, int, int]] = {("celery", 4, 0), ("celery", 4, 2), ("else", 4, 1)}
    asked = []

    def ask(entry: RegistryEntry) -> Container[tuple[str, int, int]] | None:
        asked.append(entry)
        return started

    report = held.restore(ask)
    assert (report.restored, report.started) == (3, 2)
    assert ids(db.entries()) == ["1", "3", "other"]
    assert asked == [held.entry]


def test_nothing_is_known_of_a_segment_on_another_host(db: Database) -> None:
    held = Held(db)
    held.claim("celery", 1, [envelope(0)])
    assert held.restore(lambda _: None).restored == 1


def test_priorities_and_queues_keep_their_lists(db: Database) -> None:
    queues = ["celery", "celery\x06\x163", "other:{queue}:1"]
    held = Held(db, queue_keys=queues)
    for number, queue in enumerate(queues):
        held.claim(queue, number, [envelope(queue)])
    assert held.restore().restored == 3
    assert [ids(db.entries(queue)) for queue in queues] == [[queue] for queue in queues]
    assert held.nothing_is_left()


def test_a_global_key_prefix_is_obeyed(db: Database) -> None:
    keys = Keys(prefix="shop:")
    held = Held(db, keys=keys)
    held.claim("celery", 1, [envelope(0)])
    assert [entry.worker for entry in dead_workers(db.client, keys=keys)] == [held.entry.worker]
    held.restore()
    assert ids(db.entries("shop:celery")) == ["0"]
    assert held.nothing_is_left()


def test_long_claims_move_in_bounded_steps(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover, "_CHUNK", 7)
    monkeypatch.setattr(recover, "_CHUNK_BYTES", 900)
    held = Held(db)
    held.claim("celery", 1, [envelope(n) for n in range(50)])
    held.settle("celery", 1, 10)
    report = held.restore(lambda _: {("celery", 1, 0), ("celery", 1, 49), ("celery", 1, 25)})
    assert (report.restored, report.started) == (46, 3)
    assert ids(db.entries()) == [str(n) for n in range(50) if n not in (0, 10, 25, 49)]


def test_what_is_no_message_comes_back_as_it_was(db: Database) -> None:
    held = Held(db)
    held.claim("celery", 1, [b"\xff no json", envelope(0)])
    held.restore()
    assert db.entries()[0] == b"\xff no json"


def test_a_queue_key_of_another_type_loses_nothing(db: Database) -> None:
    held = Held(db, queue_keys=["celery", "good"])
    held.claim("celery", 1, [envelope(0), envelope(1)])
    held.claim("good", 2, [envelope(2)])
    db.client.delete("celery")
    db.client.set("celery", "no list")
    report = held.restore()
    assert (report.restored, report.left) == (1, 2)
    assert db.length(KEYS.claim("celery", held.entry.worker, number=1)) == 2
    assert db.client.hexists(KEYS.workers, held.entry.worker)
    db.client.delete("celery")
    assert held.restore().restored == 2
    assert held.nothing_is_left()


def test_restoring_twice_does_nothing_more(db: Database) -> None:
    held = Held(db)
    held.claim("celery", 1, [envelope(0)])
    held.restore()
    assert held.restore().restored == 0
    assert ids(db.entries()) == ["0"]


# Who is dead, and who comes back


def test_a_heartbeat_keeps_what_a_worker_holds(db: Database) -> None:
    held = Held(db)
    held.claim("celery", 1, [envelope(0)])
    held.beat()
    assert dead_workers(db.client, keys=KEYS) == []
    report = held.restore()
    assert report.came_back
    assert report.restored == 0
    assert db.length(KEYS.claim("celery", held.entry.worker, number=1)) == 1


def test_a_worker_of_this_host_that_is_gone_is_not_waited_for(db: Database) -> None:
    gone = describe_process("w@here-1", node="w@here", keys=["celery"])
    held = Held(db)
    held.entry = msgspec.structs.replace(gone, worker=held.entry.worker, pid_start=1)
    db.client.hset(KEYS.workers, held.entry.worker, held.entry.encode().decode())
    held.claim("celery", 1, [envelope(0)])
    held.beat()
    assert [entry.worker for entry in dead_workers(db.client, keys=KEYS)] == [held.entry.worker]
    assert held.restore().restored == 1
    assert held.nothing_is_left()


def test_a_worker_that_comes_back_in_the_middle_keeps_the_rest(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(db)
    held.claim("celery", 1, [envelope(0)])
    held.claim("celery", 2, [envelope(1)])
    calls = []

    def mark(entry: bytes) -> bytes:
        # Between the look and the transaction, when the second list is about to be moved.
        calls.append(entry)
        if len(calls) == 2:
            held.beat()
        return entry

    monkeypatch.setattr(recover, "mark_redelivered", mark)
    report = held.restore()
    assert report.came_back
    assert report.restored == 1
    assert ids(db.entries()) == ["1"]
    assert ids(db.entries(KEYS.claim("celery", held.entry.worker, number=1))) == ["0"]


def test_a_settlement_in_the_middle_is_seen(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(db)
    held.claim("celery", 1, [envelope(0), envelope(1)])
    settled: list[int] = []

    def mark(entry: bytes) -> bytes:
        if not settled:
            held.settle("celery", 1, 0)
            settled.append(0)
        return entry

    monkeypatch.setattr(recover, "mark_redelivered", mark)
    assert held.restore().restored == 1
    assert ids(db.entries()) == ["1"]


def test_several_restorers_restore_each_message_once(db: Database) -> None:
    held = Held(db)
    for number in range(20):
        held.claim("celery", number, [envelope(number * 10 + n) for n in range(10)])
    reports: list[Restored] = []
    at_once = threading.Barrier(4)

    def restore() -> None:
        client = db.server.client(number=db.number)
        at_once.wait(10)
        reports.append(restore_worker(client, held.entry, keys=KEYS))
        client.close()

    run_all([threading.Thread(target=restore) for _ in range(4)])
    assert sum(report.restored for report in reports) == 200
    assert sorted(ids(db.entries()), key=int) == [str(n) for n in range(200)]
    assert held.nothing_is_left()


def run_all(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


# The command


def test_recover_all_restores_every_dead_worker(db: Database) -> None:
    held = Held(db)
    held.claim("celery", 1, [envelope(0)])
    living = describe_process("w@here-2", node="w@here", keys=["celery"])
    db.client.hset(KEYS.workers, living.worker, living.encode().decode())
    report = recover_all(db.url)
    assert [(worker.worker, worker.restored) for worker in report.workers] == [(held.entry.worker, 1)]
    assert (report.alive, report.unacked) == (1, None)
    assert "1 put back" in str(report)
    assert "1 living" in str(report)


@pytest.mark.parametrize("spoil", ["delete", "overwrite"])
def test_claims_without_a_readable_registry_are_found(db: Database, spoil: str) -> None:
    options = {"global_keyprefix": "sh[o]p*"}
    keys = Keys.from_options(options)
    held = Held(db, keys=keys)
    held.claim("celery", 1, [envelope(0)])
    how: dict[str, Callable[[], Any]] = {
        "delete": lambda: db.client.delete(keys.workers),
        "overwrite": lambda: db.client.hset(keys.workers, held.entry.worker, "{"),
    }
    how[spoil]()
    assert recover_all(db.url, options).workers[0].restored == 1
    assert ids(db.entries(keys.waiting("celery"))) == ["0"]


def test_recover_all_tells_what_is_wrong(redis_server: RedisServer) -> None:
    with pytest.raises(BrokerUnavailable):
        recover_all(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(BrokerRefused):
        recover_all(f"redis://127.0.0.1:{redis_server.port}/99999")
