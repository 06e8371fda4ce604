"""When a message is off the books: the table of early and late acknowledgement, row by row."""

from __future__ import annotations

import signal

import pytest

from tests.eventually import eventually, steadily
from tests.fix_lab import RESULT_S, Lab, stored, wait_state


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """One worker with one child: what is settled is settled before the next task starts."""
    module_lab.worker("--prefetch-multiplier", "1")
    return module_lab


def holds(lab: Lab) -> int:
    """How many messages are in the workers' books."""
    return sum(lab.held().values())


def unsettled(lab: Lab, task_id: str) -> bool:
    """Whether some worker's books still hold this message: kombu's hash, or a claim list."""
    return any(task_id.encode() in text for text in lab.books())


def test_early_the_message_is_settled_while_the_task_runs(lab: Lab) -> None:
    sent = lab.send("hold", "early")
    eventually(lambda: lab.ledger.count("start", "early"))
    eventually(lambda: not unsettled(lab, sent.id))
    assert lab.ledger.count("end", "early") == 0
    lab.ledger.open_gate("early")
    sent.get(timeout=RESULT_S)


def test_late_the_message_is_held_until_the_task_ended(lab: Lab) -> None:
    sent = lab.send("hold_late", "late")
    eventually(lambda: lab.ledger.count("start", "late"))
    steadily(lambda: unsettled(lab, sent.id), for_s=0.5)
    lab.ledger.open_gate("late")
    sent.get(timeout=RESULT_S)
    eventually(lambda: not unsettled(lab, sent.id))
    eventually(lambda: holds(lab) == 0)


def test_late_success_retry_and_ignore_are_acknowledged(lab: Lab) -> None:
    assert lab.run("ackslate") == "late"
    eventually(lab.idle)


@pytest.mark.parametrize("name", ["fail_late", "fail_late_unacked"])
def test_a_late_failure_is_settled_either_way(lab: Lab, name: str) -> None:
    """Acknowledged, or rejected without requeue: on Redis both take it off the books."""
    sent = lab.send(name)
    assert wait_state(lab, sent.id, "FAILURE")["result"]["exc_message"] == ["late", 1]
    eventually(lab.idle)
    assert stored(lab, sent.id)["status"] == "FAILURE"


def test_late_reject_with_requeue_comes_back_marked_as_redelivered(lab: Lab) -> None:
    sent = lab.send("reject_late", True)
    assert sent.get(timeout=RESULT_S) == "second time"
    assert lab.ledger.count("ran", sent.id) == 2
    eventually(lab.idle)


def test_late_reject_without_requeue_is_a_failure(lab: Lab) -> None:
    sent = lab.send("reject_late", False)
    assert wait_state(lab, sent.id, "FAILURE")["result"]["exc_type"] == "Reject"
    eventually(lab.idle)
    assert lab.ledger.count("ran", sent.id) == 1


def test_a_requeued_message_goes_to_the_back(lab: Lab) -> None:
    blocker = lab.send("hold", "block-back")
    eventually(lambda: lab.ledger.count("start", "block-back"))
    rejected = lab.send("reject_late", True)
    after = lab.send("mark", "after-reject")
    lab.ledger.open_gate("block-back")
    rejected.get(timeout=RESULT_S)
    blocker.get(timeout=RESULT_S)
    order = [token for token in lab.ledger.tokens("ran") if token in (rejected.id, "after-reject")]
    assert order == [rejected.id, "after-reject", rejected.id]
    assert after.get(timeout=RESULT_S)


def test_a_late_hard_limit_is_acknowledged(lab: Lab) -> None:
    sent = lab.task("stubborn_late").apply_async(("hard-late",), time_limit=0.8)
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"]["exc_type"] == "TimeLimitExceeded"
    eventually(lab.idle)
    assert lab.ledger.count("start", "hard-late") == 1


def test_a_late_hard_limit_with_acks_on_timeout_off_comes_back(other_lab: Lab) -> None:
    worker = other_lab.worker()
    sent = other_lab.task("stubborn_requeue").apply_async(("hard-back",), time_limit=0.8)
    eventually(lambda: other_lab.ledger.count("start", "hard-back") >= 2, within_s=20)
    assert wait_state(other_lab, sent.id, "FAILURE")["result"]["exc_type"] == "TimeLimitExceeded"
    worker.stop(signal.SIGQUIT)
    assert other_lab.db.length() == 1


def test_an_error_in_a_task_leaves_nothing_held(lab: Lab) -> None:
    sent = lab.send("fail")
    wait_state(lab, sent.id, "FAILURE")
    eventually(lab.idle, within_s=20)
