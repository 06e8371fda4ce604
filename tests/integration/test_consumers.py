"""Queues are added to a running worker and taken away, as they are declared or as the operator says."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.control import ask
from tests.eventually import eventually, steadily
from tests.fix_lab import RESULT_S, Lab


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """One worker with two children for the module."""
    module_lab.use("tests.apps.queued")
    module_lab.worker("-Q", "one", concurrency=2)
    return module_lab


def names(lab: Lab) -> set[str]:
    """The queues that the worker says it consumes."""
    found = lab.app.control.broadcast("active_queues", reply=True, limit=1, timeout=10)
    return {queue["name"] for reply in found for queues in reply.values() for queue in queues}


def test_a_queue_that_nobody_declares(lab: Lab) -> None:
    sent = lab.send("mark", "added", queue="added")
    assert ask(lab, "add_consumer", "added") == {"ok": "add consumer added"}
    assert sent.get(timeout=RESULT_S) == "added"
    assert lab.send("mark", "added-2", queue="added").get(timeout=RESULT_S) == "added-2"


def test_a_message_that_comes_while_nothing_else_does(lab: Lab) -> None:
    ask(lab, "add_consumer", "silent")
    lab.workers[0].wait_log("Started consuming from silent")
    for number in range(3):
        assert lab.send("mark", f"silent-{number}", queue="silent").get(timeout=RESULT_S) == f"silent-{number}"


@pytest.mark.parametrize("priority", [0, 4, 9])
def test_all_its_priority_steps(lab: Lab, priority: int) -> None:
    ask(lab, "add_consumer", "steps")
    sent = lab.send("mark", f"step-{priority}", queue="steps", priority=priority)
    assert sent.get(timeout=RESULT_S) == f"step-{priority}"


def test_a_declared_queue_is_bound_as_declared(lab: Lab) -> None:
    """The topic exchange of the application; the client declares nothing."""
    lab.db.client.delete("_kombu.binding.topicex")
    ask(lab, "add_consumer", "topicq")
    eventually(lambda: lab.db.client.smembers("_kombu.binding.topicex"))
    client = lab.client(task_queues=None)
    sent = client.tasks["t.mark"].apply_async(("topic",), queue="topicq")
    assert sent.get(timeout=RESULT_S) == "topic"


def test_bindings_as_the_operator_says(lab: Lab) -> None:
    ask(lab, "add_consumer", "mine", exchange="theirs", exchange_type="direct", routing_key="this.key")
    separator = "\x06\x16"
    eventually(
        lambda: f"this.key{separator}{separator}mine".encode() in lab.db.client.smembers("_kombu.binding.theirs")
    )
    ask(lab, "add_consumer", "all", exchange="topics", exchange_type="topic", routing_key="news.#")
    member = separator.join(["news.#", r"^news\..*?$", "all"]).encode()
    eventually(lambda: member in lab.db.client.smembers("_kombu.binding.topics"))
    sent = lab.task("mark").apply_async(("by-exchange",), exchange="theirs", routing_key="this.key")
    assert sent.get(timeout=RESULT_S) == "by-exchange"


def test_a_cancelled_queue_is_not_read(lab: Lab) -> None:
    ask(lab, "add_consumer", "gone")
    assert lab.send("mark", "before", queue="gone").get(timeout=RESULT_S) == "before"
    assert ask(lab, "cancel_consumer", "gone") == {"ok": "no longer consuming from gone"}
    lab.workers[0].wait_log("Canceling queue gone")
    eventually(lambda: "gone" not in names(lab))
    after = lab.send("mark", "after", queue="gone")
    assert lab.run("add", 1, 1) == 2
    steadily(lambda: lab.db.length("gone") == 1, for_s=0.3)
    ask(lab, "add_consumer", "gone")
    assert after.get(timeout=RESULT_S) == "after"


def test_what_was_held_of_a_cancelled_queue_runs(lab: Lab) -> None:
    ask(lab, "add_consumer", "held")
    for number in range(2):
        lab.send("hold", f"held-block-{number}", queue="one")
        eventually(lambda number=number: lab.ledger.count("start", f"held-block-{number}"))  # type: ignore[misc]
    sent = [lab.send("mark", f"held-{number}", queue="held") for number in range(3)]
    eventually(lambda: not lab.db.length("held"))
    ask(lab, "cancel_consumer", "held")
    for number in range(2):
        lab.ledger.open_gate(f"held-block-{number}")
    assert [result.get(timeout=RESULT_S) for result in sent] == ["held-0", "held-1", "held-2"]


@pytest.mark.fastq_only("a stock worker still waits for one message of it")
def test_the_last_queue_can_go(lab: Lab) -> None:
    for queue in names(lab):
        ask(lab, "cancel_consumer", queue)
    eventually(lambda: not names(lab))
    sent = lab.send("mark", "alone", queue="one")
    steadily(lambda: lab.db.length("one") == 1, for_s=0.3)
    ask(lab, "add_consumer", "one")
    assert sent.get(timeout=RESULT_S) == "alone"


class TestOwnWorker:
    """What ends a worker, or cuts its connections."""

    @pytest.fixture
    def lab(self, other_lab: Lab) -> Lab:
        return other_lab

    @pytest.mark.fastq_only("a stock worker loses what it held, or holds it back for an hour")
    def test_what_a_killed_worker_held_of_an_added_queue_comes_back(self, lab: Lab) -> None:
        worker = lab.worker(concurrency=1)
        ask(lab, "add_consumer", "added")
        lab.send("hold_late", "killed", queue="added")
        eventually(lambda: lab.ledger.count("start", "killed") == 1)
        waiting = [lab.send("mark", f"killed-{number}", queue="added") for number in range(3)]
        eventually(lambda: not lab.db.length("added"))
        worker.kill()
        eventually(lambda: not worker.look())  # its child dies a moment later, and must not get through the gate
        lab.ledger.open_gate("killed")
        lab.worker("-Q", "added", concurrency=1)
        assert [result.get(timeout=RESULT_S) for result in waiting] == ["killed-0", "killed-1", "killed-2"]
        eventually(lambda: lab.ledger.count("start", "killed") == 2 and lab.idle())

    @pytest.mark.fastq_only("a stock worker redelivers what it holds")
    def test_added_and_cancelled_queues_hold_over_a_reconnection(self, lab: Lab) -> None:
        lab.use("tests.apps.queued")
        worker = lab.worker("-Q", "one,two", concurrency=1)
        ask(lab, "add_consumer", "added")
        ask(lab, "cancel_consumer", "two")
        cut(lab)
        worker.wait_log("Connection to the broker lost")
        assert lab.send("mark", "one", queue="one").get(timeout=RESULT_S) == "one"
        assert lab.send("mark", "added", queue="added").get(timeout=RESULT_S) == "added"
        lab.send("mark", "two", queue="two")
        steadily(lambda: lab.db.length("two") == 1, for_s=0.3)

    def test_a_warm_stop_returns_messages_of_added_and_cancelled_queues(self, lab: Lab) -> None:
        worker = lab.worker(concurrency=1)
        ask(lab, "add_consumer", "added")
        lab.send("hold", "block")
        eventually(lambda: lab.ledger.count("start", "block") == 1)
        lab.send("mark", "returned", queue="added")
        eventually(lambda: not lab.db.length("added"))
        ask(lab, "cancel_consumer", "added")
        worker.send(signal.SIGTERM)
        worker.wait_log("Warm shutdown")
        lab.ledger.open_gate("block")
        assert worker.wait() == 0
        assert lab.db.length("added") == 1


def cut(lab: Lab) -> None:
    """Close the worker's connections from the server's side."""
    client: Any = lab.db.client
    for each in client.client_list():
        if str(each["name"]).startswith("fastq:"):
            client.client_kill_filter(_id=each["id"])
