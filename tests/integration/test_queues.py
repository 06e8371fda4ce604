"""Which queues are read, in which order, under which keys."""

from __future__ import annotations

from typing import Any

import pytest

from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab


def ran(lab: Lab) -> list[str]:
    """The tokens in the order they ran."""
    return lab.ledger.tokens("ran")


def send_all(lab: Lab, tokens: list[str], **options: Any) -> None:
    """Send one mark per token."""
    for token in tokens:
        lab.task("mark").apply_async((token,), **options)


def test_priority_0_is_first_and_9_last(lab: Lab) -> None:
    for priority in (9, 6, 3, 0, 5, 255):
        send_all(lab, [f"p{priority}"], priority=priority)
    lab.worker("--prefetch-multiplier", "1")
    eventually(lambda: len(ran(lab)) == 6, within_s=15)
    assert ran(lab) == ["p0", "p3", "p5", "p6", "p9", "p255"]


def test_one_queue_is_first_in_first_out(lab: Lab) -> None:
    tokens = [f"t{number}" for number in range(60)]
    send_all(lab, tokens)
    lab.worker()
    eventually(lambda: len(ran(lab)) == 60, within_s=15)
    assert ran(lab) == tokens


def test_only_the_queues_asked_for_are_read(lab: Lab) -> None:
    for queue in ("a", "b", "c"):
        send_all(lab, [queue], queue=queue)
    lab.worker("-Q", "a,c")
    eventually(lambda: sorted(ran(lab)) == ["a", "c"])
    assert lab.db.length("b") == 1


def test_excluded_queues_are_not_read(lab: Lab) -> None:
    lab.use("tests.apps.queued")
    for queue in ("one", "two", "three"):
        send_all(lab, [queue], queue=queue)
    lab.worker("-X", "two")
    eventually(lambda: sorted(ran(lab)) == ["one", "three"])
    assert lab.db.length("two") == 1


def test_all_declared_queues_are_read_by_default(lab: Lab) -> None:
    lab.use("tests.apps.queued")
    for queue in ("one", "two", "three"):
        send_all(lab, [queue], queue=queue)
    lab.worker()
    eventually(lambda: sorted(ran(lab)) == ["one", "three", "two"])


def test_routes_and_another_default_queue(lab: Lab) -> None:
    lab.use(task_default_queue="main", task_routes={"t.mark": {"queue": "marks"}})
    lab.worker("-Q", "main,marks")
    assert lab.run("mark", "routed") == "routed"
    assert lab.run("add", 1, 1) == 2


@pytest.mark.parametrize("strategy", ["priority", "sorted", "round_robin"])
def test_queue_order_strategy(lab: Lab, strategy: str) -> None:
    lab.use(broker_transport_options={"queue_order_strategy": strategy})
    for queue in ("b", "a"):
        send_all(lab, [f"{queue}{number}" for number in range(4)], queue=queue)
    lab.worker("-Q", "b,a", "--prefetch-multiplier", "1")
    eventually(lambda: len(ran(lab)) == 8, within_s=15)
    queues = "".join(token[0] for token in ran(lab))
    if strategy == "round_robin":  # ours claims a few at a time, so the turns may be longer than one message
        assert set(queues[:4]) == {"a", "b"}
    else:
        assert queues == {"priority": "bbbbaaaa", "sorted": "aaaabbbb"}[strategy]


def test_priorities_come_before_queue_order(lab: Lab) -> None:
    send_all(lab, ["b-low"], queue="b", priority=9)
    send_all(lab, ["a-high"], queue="a", priority=0)
    lab.use(broker_transport_options={"queue_order_strategy": "priority"})
    lab.worker("-Q", "b,a", "--prefetch-multiplier", "1")
    eventually(lambda: len(ran(lab)) == 2, within_s=15)
    assert ran(lab) == ["a-high", "b-low"]


def test_custom_steps_and_separator(lab: Lab) -> None:
    lab.use(broker_transport_options={"priority_steps": [0, 5], "sep": ":"})
    send_all(lab, ["low"], priority=7)
    send_all(lab, ["high"], priority=4)
    assert (lab.db.length("celery:5"), lab.db.length("celery")) == (1, 1)
    lab.worker("--prefetch-multiplier", "1")
    eventually(lambda: len(ran(lab)) == 2, within_s=15)
    assert ran(lab) == ["high", "low"]


def test_global_key_prefix(lab: Lab) -> None:
    lab.use(broker_transport_options={"global_keyprefix": "{tenant}:"})
    send_all(lab, ["prefixed"])
    assert lab.db.length("{tenant}:celery") == 1
    lab.worker()
    assert lab.run("retry", 1) == 1
    eventually(lambda: ran(lab) == ["prefixed"])
    strays = [key for key in lab.db.keys() if not key.startswith(("{tenant}:", "celery-task-meta"))]
    assert not strays


def test_a_retry_goes_back_to_its_queue(lab: Lab) -> None:
    lab.worker("-Q", "special")
    sent = lab.send("retry", 2, queue="special")
    assert sent.get(timeout=RESULT_S) == 2


def test_a_retry_keeps_its_priority(lab: Lab) -> None:
    worker = lab.worker()
    sent = lab.task("retry").apply_async((1, 3600), priority=6)
    worker.wait_log(rf"{sent.id}\] retry")
    eventually(lambda: lab.held() or lab.db.length("celery\x06\x166"))
    texts = [*lab.db.entries("celery\x06\x166"), *lab.books()]
    assert any(b'"priority": 6' in text and b'"retries": 1' in text for text in texts)


def test_a_message_bound_through_an_exchange_arrives(lab: Lab) -> None:
    lab.use("tests.apps.queued")
    lab.worker()
    topic = lab.app.amqp.queues["topicq"]
    sent = lab.task("mark").apply_async(("topical",), exchange=topic.exchange, routing_key="a.b.c", declare=[topic])
    assert sent.get(timeout=RESULT_S) == "topical"


def test_two_workers_share_one_queue(lab: Lab) -> None:
    workers = [lab.worker(), lab.worker()]
    held = [lab.send("hold", f"share-{number}") for number in range(2)]
    eventually(lambda: len(lab.ledger.tokens("start")) == 2, within_s=20)
    pids = {lab.ledger.pid_of("start", f"share-{number}") for number in range(2)}
    for number in range(2):
        lab.ledger.open_gate(f"share-{number}")
    for result in held:
        result.get(timeout=RESULT_S)
    assert all(pids & set(worker.children) for worker in workers)
