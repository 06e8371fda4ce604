"""Fanout exchanges: each worker gets each message. Queues with several bindings, and a worker's own queue."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from kombu import Exchange

from tests.apps.broadcasting import ALERTS, NEWS
from tests.control import ask
from tests.eventually import eventually, steadily
from tests.fix_lab import RESULT_S, Lab, wait_state


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """Two workers for the module."""
    module_lab.use("tests.apps.broadcasting", worker_direct=True)
    for _ in range(2):
        module_lab.worker(concurrency=1)
    return module_lab


def publish(lab: Lab, name: str, *args: Any, exchange: Exchange = NEWS, key: str = "celery", **options: Any) -> Any:
    """Send a task to a fanout exchange, which the client has to declare."""
    return lab.send(name, *args, exchange=exchange.name, routing_key=key, declare=[exchange], **options)


def pids(lab: Lab, token: str) -> set[int]:
    """The processes that ran it."""
    return {pid for event, found, pid in lab.ledger.lines() if (event, found) == ("ran", token)}


def test_every_worker_runs_it_once(lab: Lab) -> None:
    for number in range(5):
        publish(lab, "mark", f"all-{number}")
    for number in range(5):
        eventually(lambda number=number: len(pids(lab, f"all-{number}")) == 2)  # type: ignore[misc]
        assert lab.ledger.count("ran", f"all-{number}") == 2
    assert not lab.held()


def test_late_acknowledged(lab: Lab) -> None:
    publish(lab, "mark_late", "late")
    eventually(lambda: len(pids(lab, "late")) == 2)
    steadily(lambda: lab.ledger.count("ran", "late") == 2, for_s=0.1)


def test_its_result_is_stored(lab: Lab) -> None:
    assert publish(lab, "add", 2, 3).get(timeout=RESULT_S) == 5


@pytest.mark.fastq_only("a stock worker's pattern is escaped by nobody, and matches all the same")
def test_patterns(lab: Lab) -> None:
    publish(lab, "mark", "fire", exchange=ALERTS, key="fire.kitchen.stove")
    publish(lab, "mark", "flood", exchange=ALERTS, key="flood.cellar")
    eventually(lambda: len(pids(lab, "fire")) == 2)
    assert not pids(lab, "flood")


def test_with_a_countdown(lab: Lab) -> None:
    publish(lab, "mark", "soon", countdown=0.5)
    steadily(lambda: not pids(lab, "soon"), for_s=0.2)
    eventually(lambda: len(pids(lab, "soon")) == 2)


def test_expired(lab: Lab) -> None:
    sent = publish(lab, "mark", "too-late", expires=-1)
    wait_state(lab, sent.id, "REVOKED")
    assert not pids(lab, "too-late")


def test_with_a_rate_limit(lab: Lab) -> None:
    lab.app.control.rate_limit("t.mark", "5/s", reply=True, limit=2)
    for number in range(3):
        publish(lab, "mark", f"limited-{number}")
    eventually(lambda: all(len(pids(lab, f"limited-{number}")) == 2 for number in range(3)))
    lab.app.control.rate_limit("t.mark", 0, reply=True, limit=2)


def test_a_child_that_dies_in_one(lab: Lab) -> None:
    sent = publish(lab, "die_late", "kill")
    wait_state(lab, sent.id, "FAILURE")
    assert lab.run("add", 1, 1) == 2


@pytest.mark.fastq_only("a stock worker ends over it")
def test_what_is_no_message(lab: Lab) -> None:
    lab.db.client.publish(f"/{lab.db.number}.news/celery", b"this is no message")
    for worker in lab.workers:
        worker.wait_log("A broadcast that is no message was dropped")
    publish(lab, "mark", "after-rubbish")
    eventually(lambda: len(pids(lab, "after-rubbish")) == 2)


def test_several_bindings(lab: Lab) -> None:
    for exchange, key in (("direct", "one"), ("topic", "two.three")):
        sent = lab.send("mark", f"{exchange}-{key}", exchange=exchange, routing_key=key, declare=[_EXCHANGES[exchange]])
        assert sent.get(timeout=RESULT_S) == f"{exchange}-{key}"


_EXCHANGES = {"direct": Exchange("direct", type="direct"), "topic": Exchange("topic", type="topic")}


def test_the_queue_of_one_worker(lab: Lab) -> None:
    """worker_direct: `C.dq2` leads to the worker whose node name is the routing key."""
    for worker in lab.workers:
        token = f"direct-{worker.node}"
        sent = lab.send("mark", token, exchange="C.dq2", routing_key=worker.node)
        assert sent.get(timeout=RESULT_S) == token
        [pid] = pids(lab, token)
        assert pid in worker.children


class TestOwnWorker:
    """One worker that is stopped, or whose queues change."""

    @pytest.fixture
    def lab(self, other_lab: Lab) -> Lab:
        other_lab.use("tests.apps.broadcasting")
        return other_lab

    def test_it_can_be_added_and_cancelled(self, lab: Lab) -> None:
        lab.worker("-Q", "celery", concurrency=1)
        ask(lab, "add_consumer", "alarms")
        publish_until(lab, "added", exchange=ALERTS, key="fire.")
        ask(lab, "cancel_consumer", "alarms")
        lab.workers[0].wait_log("Canceling queue alarms")
        lab.run("add", 1, 1)
        publish(lab, "mark", "cancelled", exchange=ALERTS, key="fire.")
        lab.run("add", 1, 1)
        steadily(lambda: not pids(lab, "cancelled"), for_s=0.2)

    def test_what_was_not_started_is_dropped_when_the_worker_stops(self, lab: Lab) -> None:
        worker = lab.worker(concurrency=1)
        publish(lab, "hold", "block")
        eventually(lambda: lab.ledger.count("start", "block") == 1)
        for number in range(3):
            publish(lab, "mark", f"dropped-{number}")
        publish(lab, "mark", "dropped-later", countdown=60)
        eventually(lambda: len(worker.log_lines("Task t.mark.* received")) == 4)
        worker.send(signal.SIGTERM)
        worker.wait_log("Warm shutdown")
        lab.ledger.open_gate("block")
        assert worker.wait() == 0
        assert lab.ledger.count("end", "block") == 1
        assert not lab.ledger.tokens("ran")


def publish_until(lab: Lab, token: str, **options: Any) -> None:
    """Publish again and again: a worker that is just subscribing may miss the first."""

    def heard() -> bool:
        publish(lab, "mark", token, **options)
        return bool(pids(lab, token))

    eventually(heard)
