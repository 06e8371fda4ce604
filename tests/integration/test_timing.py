"""Times in messages and limits on tasks: eta, countdown, expires, soft and hard limits."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest

from tests.eventually import eventually, steadily
from tests.fix_lab import RESULT_S, Lab, stored, wait_state


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """One worker with two children for the module."""
    module_lab.worker(concurrency=2)
    return module_lab


def test_countdown_is_waited_for(lab: Lab) -> None:
    before = time.monotonic()
    assert lab.task("add").apply_async((1, 1), countdown=1).get(timeout=RESULT_S) == 2
    assert 0.9 <= time.monotonic() - before < 4


def test_eta_in_another_timezone(lab: Lab) -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    before = time.monotonic()
    sent = lab.task("add").apply_async((1, 1), eta=datetime.now(zone) + timedelta(seconds=1))
    assert sent.get(timeout=RESULT_S) == 2
    assert 0.9 <= time.monotonic() - before < 4


def test_a_naive_eta_is_utc(lab: Lab) -> None:
    eta = datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(seconds=1)
    before = time.monotonic()
    assert lab.task("add").apply_async((1, 1), eta=eta).get(timeout=RESULT_S) == 2
    assert 0.9 <= time.monotonic() - before < 4


def test_an_eta_in_the_past_is_now(lab: Lab) -> None:
    eta = datetime(2001, 1, 1, tzinfo=timezone.utc)
    assert lab.task("add").apply_async((1, 1), eta=eta).get(timeout=RESULT_S) == 2


def test_waiting_tasks_do_not_hold_up_others(lab: Lab) -> None:
    for _ in range(50):
        lab.task("mark").apply_async(("much-later",), countdown=3600)
    assert lab.run("add", 2, 2) == 4
    assert lab.ledger.count("ran", "much-later") == 0


def test_etas_run_in_the_order_they_fall_due(lab: Lab) -> None:
    now = datetime.now(timezone.utc)
    sent = [
        lab.task("mark").apply_async((f"due-{ms}",), eta=now + timedelta(milliseconds=ms)) for ms in (1500, 600, 1050)
    ]
    for result in sent:
        result.get(timeout=RESULT_S)
    ran = [token for token in lab.ledger.tokens("ran") if token.startswith("due-")]
    assert ran == ["due-600", "due-1050", "due-1500"]


def test_an_expired_task_is_revoked_and_not_run(lab: Lab) -> None:
    past = datetime.now(timezone.utc) - timedelta(seconds=10)
    sent = lab.task("mark").apply_async(("expired",), expires=past)
    record = wait_state(lab, sent.id, "REVOKED")
    assert record["result"] == {
        "exc_type": "TaskRevokedError",
        "exc_message": ["expired"],
        "exc_module": "celery.exceptions",
    }
    assert lab.ledger.count("ran", "expired") == 0
    lab.workers[0].wait_log(rf"Discarding revoked task: t\.mark\[{sent.id}\]")


def test_a_task_in_time_runs(lab: Lab) -> None:
    assert lab.task("add").apply_async((1, 1), expires=60).get(timeout=RESULT_S) == 2
    assert lab.run("expiring") == "in time"


def test_a_task_that_expires_while_it_waits_behind_others(lab: Lab) -> None:
    blocks = [lab.send("hold", f"expiry-{number}") for number in range(2)]
    eventually(lambda: len([t for t in lab.ledger.tokens("start") if t.startswith("expiry-")]) == 2)
    sent = lab.task("mark").apply_async(("too-late",), expires=0.5)
    time.sleep(0.6)
    for number in range(2):
        lab.ledger.open_gate(f"expiry-{number}")
    for block in blocks:
        block.get(timeout=RESULT_S)
    wait_state(lab, sent.id, "REVOKED")
    assert lab.ledger.count("ran", "too-late") == 0


def test_a_task_that_expires_before_its_eta(lab: Lab) -> None:
    sent = lab.task("mark").apply_async(("never",), countdown=1.2, expires=0.3)
    wait_state(lab, sent.id, "REVOKED")
    assert lab.ledger.count("ran", "never") == 0


def test_a_soft_limit_can_be_caught(lab: Lab) -> None:
    sent = lab.task("soft").apply_async(("caught",), soft_time_limit=0.5)
    assert sent.get(timeout=RESULT_S) == "cleaned up"


def test_a_soft_limit_that_is_not_caught_is_a_failure(lab: Lab) -> None:
    sent = lab.task("nap").apply_async(("uncaught", 20), soft_time_limit=0.5)
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"] == {
        "exc_type": "SoftTimeLimitExceeded",
        "exc_message": [],
        "exc_module": "billiard.exceptions",
    }
    lab.workers[0].wait_log(rf"Soft time limit \(0\.5s\) exceeded for t\.nap\[{sent.id}\]")


def test_a_hard_limit_ends_the_child_and_fails_the_task(lab: Lab) -> None:
    before = lab.workers[0].children
    sent = lab.task("stubborn").apply_async(("hard",), time_limit=0.8)
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"]["exc_type"] == "TimeLimitExceeded"
    assert record["result"]["exc_message"] == [0.8]
    assert record["traceback"] is None
    lab.workers[0].wait_log(rf"Hard time limit \(0\.8s\) exceeded for t\.stubborn\[{sent.id}\]")
    lab.workers[0].wait_log(r"ERROR.*Task handler raised error: TimeLimitExceeded\(0\.8,?\)")
    eventually(lambda: len(set(lab.workers[0].children) - set(before)) == 1)
    assert lab.run("add", 1, 1) == 2


def test_soft_then_hard(lab: Lab) -> None:
    sent = lab.task("stubborn").apply_async(("both",), soft_time_limit=0.5, time_limit=1.2)
    assert wait_state(lab, sent.id, "FAILURE")["result"]["exc_type"] == "TimeLimitExceeded"


def test_a_limit_ends_with_its_task(lab: Lab) -> None:
    """The next task of the same child is not hit by the alarm of the one before."""
    for number in range(6):
        lab.task("nap").apply_async((f"short-{number}", 0.0), soft_time_limit=0.4, time_limit=0.6).get(timeout=RESULT_S)
    sent = [lab.send("nap", f"long-{number}", 1.0) for number in range(2)]
    assert [result.get(timeout=RESULT_S) for result in sent] == ["long-0", "long-1"]


def test_limits_of_the_command_line(other_lab: Lab) -> None:
    other_lab.worker("--soft-time-limit", "0.6", "--time-limit", "1.5")
    assert other_lab.run("soft", "by-worker") == "cleaned up"
    sent = other_lab.send("stubborn", "by-worker-hard")
    assert wait_state(other_lab, sent.id, "FAILURE")["result"]["exc_type"] == "TimeLimitExceeded"


@pytest.mark.fastq_only("kombu gives a waiting message to somebody else after its visibility timeout")
def test_a_waiting_message_outlives_the_visibility_timeout(other_lab: Lab) -> None:
    other_lab.use(broker_transport_options={"visibility_timeout": 1, "unacked_restore_interval": 1})
    for _ in range(2):
        other_lab.worker()
    sent = other_lab.task("mark").apply_async(("patient",), countdown=4)
    running = other_lab.send("nap_late", "long", 4)
    steadily(lambda: other_lab.db.length() == 0, for_s=2)
    assert sent.get(timeout=RESULT_S) == "patient"
    assert running.get(timeout=RESULT_S) == "long"
    assert (other_lab.ledger.count("ran", "patient"), other_lab.ledger.count("start", "long")) == (1, 1)
    assert stored(other_lab, sent.id)["status"] == "SUCCESS"


def test_a_rate_limit_spaces_starts_and_holds_nobody_else_up(other_lab: Lab) -> None:
    other_lab.use(task_annotations={"t.mark": {"rate_limit": "4/s"}})
    other_lab.worker("--prefetch-multiplier", "8", concurrency=2)
    before = time.monotonic()
    sent = [other_lab.send("mark", f"limited-{number}") for number in range(6)]
    assert other_lab.run("add", 1, 1) == 2
    assert time.monotonic() - before < 1.0
    assert [result.get(timeout=RESULT_S) for result in sent] == [f"limited-{number}" for number in range(6)]
    assert 1.2 <= time.monotonic() - before < 4
    assert other_lab.ledger.tokens("ran") == [f"limited-{number}" for number in range(6)]


def test_a_rate_limit_of_one_worker_leaves_messages_to_others(other_lab: Lab) -> None:
    other_lab.use(task_annotations={"t.mark": {"rate_limit": "1/m"}})
    worker = other_lab.worker("--prefetch-multiplier", "2", concurrency=2)
    for number in range(20):
        other_lab.send("mark", f"slow-{number}")
    eventually(lambda: other_lab.ledger.tokens("ran"))
    steadily(lambda: len(other_lab.db.entries()) >= 12, for_s=0.5)
    assert worker.stop() == 0
    assert len(other_lab.db.entries()) == 19
