"""What is stored for every way a task can end, as a stock client reads it."""

from __future__ import annotations

from typing import Any

import pytest
from celery.exceptions import MaxRetriesExceededError

from tests.eventually import eventually, steadily
from tests.fix_lab import RESULT_S, Lab, stored, wait_state


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """One worker with two children for the module."""
    module_lab.worker(concurrency=2)
    return module_lab


def error_of(lab: Lab, name: str, *args: Any, **options: Any) -> BaseException:
    """The exception a stock client raises for this task."""
    with pytest.raises(Exception) as caught:
        lab.run(name, *args, **options)
    return caught.value


def test_success(lab: Lab) -> None:
    sent = lab.send("add", 2, 3)
    assert sent.get(timeout=RESULT_S) == 5
    assert sent.state == "SUCCESS"
    assert sent.children == []
    assert stored(lab, sent.id)["traceback"] is None


def test_keys_of_a_stored_success_are_celerys_in_celerys_order(lab: Lab) -> None:
    sent = lab.send("add", 2, 3)
    sent.get(timeout=RESULT_S)
    assert list(stored(lab, sent.id)) == ["status", "result", "traceback", "children", "date_done", "task_id"]


def test_a_result_expires_after_a_day(lab: Lab) -> None:
    sent = lab.send("add", 2, 3)
    sent.get(timeout=RESULT_S)
    assert 86_300 < lab.db.client.ttl(f"celery-task-meta-{sent.id}") <= 86_400


def test_a_failure_keeps_class_arguments_and_traceback(lab: Lab) -> None:
    sent = lab.send("fail", "boom")
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"]["exc_type"] == "CustomError"
    assert record["result"]["exc_message"] == ["boom", 7]
    assert record["result"]["exc_module"] == "tests.apps.plain"
    assert record["traceback"].startswith("Traceback (most recent call last):")
    assert record["traceback"].rstrip().endswith("tests.apps.plain.CustomError: ('boom', 7)")
    assert "raise CustomError(msg, 7)" in record["traceback"]


def test_a_client_gets_the_exception_back(lab: Lab) -> None:
    error = error_of(lab, "fail", "boom")
    assert (type(error).__name__, error.args) == ("CustomError", ("boom", 7))
    assert isinstance(error_of(lab, "failkey"), KeyError)


def test_a_nested_exception_class_is_named_by_its_qualified_name(lab: Lab) -> None:
    sent = lab.send("fail_nested")
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"] == {
        "exc_type": "Outer.Inner",
        "exc_message": ["deep", 3],
        "exc_module": "tests.apps.plain",
    }


def test_exception_arguments_json_cannot_hold_are_stored_as_their_repr(lab: Lab) -> None:
    sent = lab.send("fail_unserialisable")
    message = wait_state(lab, sent.id, "FAILURE")["result"]["exc_message"]
    assert message[0].startswith("<object object at")
    assert message[2:] == ["{1}", "text"]


def test_an_exception_that_cannot_be_built_again_is_a_failure_all_the_same(lab: Lab) -> None:
    sent = lab.send("fail_picky")
    assert wait_state(lab, sent.id, "FAILURE")["result"]["exc_type"] in ("Picky", "UnpickleableExceptionWrapper")


def test_a_result_the_serializer_refuses_is_a_failure(lab: Lab) -> None:
    sent = lab.send("unserialisable_result")
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"]["exc_type"] == "EncodeError"


def test_a_retry_runs_again_with_the_same_id(lab: Lab) -> None:
    sent = lab.send("retry", 2)
    assert sent.get(timeout=RESULT_S) == 2
    assert lab.ledger.count("attempt", sent.id) == 3


def test_state_retry_shows_while_the_retry_waits(lab: Lab) -> None:
    sent = lab.send("retry", 1, 1.5)
    record = wait_state(lab, sent.id, "RETRY")
    assert record["result"]["exc_type"] == "CustomError"
    assert record["result"]["exc_message"] == ["again", 0]
    assert record["date_done"] is None
    assert "Retry in 1.5s" in record["traceback"]
    assert sent.get(timeout=RESULT_S) == 1


def test_autoretry_gives_up_after_max_retries_with_the_error_itself(lab: Lab) -> None:
    sent = lab.send("autoretry")
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"]["exc_type"] == "ValueError"
    assert lab.ledger.count("attempt", sent.id) == 2


def test_a_retry_without_error_ends_in_max_retries_exceeded(lab: Lab) -> None:
    sent = lab.send("retry_plain")
    with pytest.raises(MaxRetriesExceededError):
        sent.get(timeout=RESULT_S)
    assert lab.ledger.count("attempt", sent.id) == 2


def test_backoff_waits_one_then_two_seconds(lab: Lab) -> None:
    sent = lab.send("backoff")
    wait_state(lab, sent.id, "FAILURE", within_s=20)
    times = [float(event[3:]) for event, token, _ in lab.ledger.lines() if token == sent.id]
    assert len(times) == 3
    assert 0.9 < times[1] - times[0] < 2.5
    assert 1.9 < times[2] - times[1] < 3.5


def test_ignore_stores_nothing_and_settles(lab: Lab) -> None:
    sent = lab.send("ignore", "ignored-1")
    eventually(lambda: lab.ledger.count("ran", "ignored-1"))
    eventually(lab.idle)
    assert stored(lab, sent.id) == {}


def test_reject_without_requeue_is_a_failure(lab: Lab) -> None:
    sent = lab.send("reject")
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"] == {"exc_type": "Reject", "exc_message": ["no", False], "exc_module": "celery.exceptions"}
    assert lab.ledger.count("ran", sent.id) == 1


def test_reject_with_requeue_stores_nothing_once_acknowledged(lab: Lab) -> None:
    sent = lab.send("reject", True)
    eventually(lambda: lab.ledger.count("ran", sent.id))
    lab.run("add", 1, 1)
    eventually(lab.idle)
    assert stored(lab, sent.id) == {}
    assert lab.ledger.count("ran", sent.id) == 1


def test_ignore_result_stores_nothing(lab: Lab) -> None:
    by_task, by_call = lab.send("ignored", "quiet-1"), lab.send("mark", "quiet-2", ignore_result=True)
    eventually(lambda: {"quiet-1", "quiet-2"} <= set(lab.ledger.tokens("ran")))
    lab.run("add", 1, 1)
    eventually(lab.idle)
    assert stored(lab, by_task.id) == stored(lab, by_call.id) == {}


def test_store_errors_even_if_ignored(lab: Lab) -> None:
    sent = lab.send("ignored_failure")
    assert wait_state(lab, sent.id, "FAILURE")["result"]["exc_message"] == ["kept", 1]


def test_update_state_then_ignore_leaves_the_custom_state(lab: Lab) -> None:
    sent = lab.send("custom")
    record = wait_state(lab, sent.id, "PROGRESS")
    assert record["result"] == {"done": 3, "of": 4}
    eventually(lab.idle)
    assert stored(lab, sent.id)["status"] == "PROGRESS"


def test_track_started_shows_child_and_node(lab: Lab) -> None:
    sent = lab.send("started", "show-started")
    record = wait_state(lab, sent.id, "STARTED")
    assert record["result"]["hostname"] == lab.workers[0].node
    assert record["result"]["pid"] in lab.workers[0].children
    lab.ledger.open_gate("show-started")
    assert sent.get(timeout=RESULT_S) == "ok"


def test_children_of_a_task_are_stored(lab: Lab) -> None:
    sent = lab.send("spawn", 4, 5)
    sent.get(timeout=RESULT_S)
    task, group = sent.children
    assert task.get(timeout=RESULT_S) == 9
    assert sorted(group.get(timeout=RESULT_S)) == [2, 4]
    assert [child[0][0] for child in stored(lab, sent.id)["children"]] == [task.id, group.id]


def test_a_returned_result_object_is_stored_as_its_tuple(lab: Lab) -> None:
    assert lab.run("returns_result") == [["11111111-2222-4333-8444-555555555555", None], None]


def test_replace_answers_under_the_first_id(lab: Lab) -> None:
    assert lab.run("replace", 4) == 5
    assert sorted(lab.run("replace_group", 3)) == [0, 1, 2]


def test_a_success_is_never_overwritten(lab: Lab) -> None:
    first = lab.send("add", 1, 1)
    first.get(timeout=RESULT_S)
    lab.task("fail").apply_async(task_id=first.id)
    lab.run("add", 1, 1)
    eventually(lab.idle)
    steadily(lambda: stored(lab, first.id)["status"] == "SUCCESS", for_s=0.3)


def test_waiting_clients_are_told_by_the_channel(lab: Lab) -> None:
    task_id = "aaaaaaaa-0000-4000-8000-000000000001"
    listener = lab.db.client.pubsub(ignore_subscribe_messages=True)
    try:
        listener.subscribe(f"celery-task-meta-{task_id}")
        lab.task("add").apply_async((2, 2), task_id=task_id)
        heard = eventually(lambda: listener.get_message(timeout=0.05))
    finally:
        listener.close()
    assert heard["data"] == lab.db.client.get(f"celery-task-meta-{task_id}")


def test_log_says_received_succeeded_raised_and_retry(lab: Lab) -> None:
    good, bad, again = lab.send("add", 1, 2), lab.send("fail"), lab.send("retry", 1)
    worker = lab.workers[0]
    worker.wait_log(rf"Task t\.add\[{good.id}\] received")
    worker.wait_log(rf"Task t\.add\[{good.id}\] succeeded in [\d.e-]+s: 3")
    worker.wait_log(rf"Task t\.fail\[{bad.id}\] raised unexpected: CustomError\('boom', 7\)")
    worker.wait_log(rf"Task t\.retry\[{again.id}\] retry: Retry in 0s")
