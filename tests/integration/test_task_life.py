"""What a task may hook into, announce and ask for during its life, with either engine."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab, stored, wait_state


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """One worker with two children for the module."""
    module_lab.use("tests.apps.life")
    module_lab.worker(concurrency=2)
    return module_lab


def hooks(lab: Lab, task_id: str) -> list[Any]:
    """The hooks that were called for a task, in order: name, whether its request was there, arguments."""
    return [json.loads(token) for token in lab.ledger.tokens(f"hook-{task_id}")]


def wait_hooks(lab: Lab, task_id: str, count: int) -> list[Any]:
    """The same, once there are that many."""
    eventually(lambda: len(hooks(lab, task_id)) >= count, saying=f"{count} hooks, has {hooks(lab, task_id)}")
    return hooks(lab, task_id)


# ---------------------------------------------------------------------------- hooks of the task class


@pytest.mark.parametrize("name", ["hooked", "hooked_late"])
def test_hooks_of_a_success(lab: Lab, name: str) -> None:
    sent = lab.send(name)
    assert sent.get(timeout=RESULT_S) == "done"
    assert wait_hooks(lab, sent.id, 3) == [
        ["before_start", True, [], {}],
        ["on_success", True, "done", [], {}],
        ["after_return", True, "SUCCESS", "done", [], {}, "NoneType"],
    ]


@pytest.mark.parametrize("name", ["hooked", "hooked_late"])
def test_hooks_of_a_failure(lab: Lab, name: str) -> None:
    sent = lab.send(name, "fail")
    wait_state(lab, sent.id, "FAILURE")
    assert wait_hooks(lab, sent.id, 3) == [
        ["before_start", True, ["fail"], {}],
        ["on_failure", True, "ValueError", ["fail"], {}, "ExceptionInfo"],
        ["after_return", True, "FAILURE", "ValueError", ["fail"], {}, "NoneType"],
    ]


def test_hooks_of_a_retry(lab: Lab) -> None:
    sent = lab.send("hooked", "retry")
    assert sent.get(timeout=RESULT_S) == "done"
    found = wait_hooks(lab, sent.id, 5)
    # The next attempt may begin before the first one is told that there will be one.
    names = ["after_return", "before_start", "before_start", "on_retry", "on_success"]
    assert sorted(hook[0] for hook in found) == names
    assert ["on_retry", True, "KeyError", ["retry"], {}, "ExceptionInfo"] in found


@pytest.mark.parametrize("how", ["ignore", "reject"])
def test_hooks_of_a_task_that_wants_no_end(lab: Lab, how: str) -> None:
    sent = lab.send("hooked", how)
    lab.run("hooked")
    assert [hook[0] for hook in wait_hooks(lab, sent.id, 1)] == ["before_start"]


def test_hooks_of_a_hard_limit(lab: Lab) -> None:
    sent = lab.send("hooked", "sleep", time_limit=1)
    wait_state(lab, sent.id, "FAILURE")
    found = wait_hooks(lab, sent.id, 3)
    assert [hook[0] for hook in found] == ["before_start", "on_failure", "after_return"]
    assert found[1][2] == "TimeLimitExceeded"


@pytest.mark.parametrize("broken", ["on_success", "after_return"])
def test_a_hook_that_fails_changes_nothing_but_the_log(lab: Lab, broken: str) -> None:
    sent = lab.send("hooked", kwargs={"broken": broken})
    assert sent.get(timeout=RESULT_S) == "done"
    lab.workers[0].wait_log(rf"Task t.hooked\[{sent.id}\] {broken} handler raised: ValueError")
    assert stored(lab, sent.id)["status"] == "SUCCESS"


def test_a_task_class_with_a_call_of_its_own(lab: Lab) -> None:
    greeted = {tuple(lab.run("greeting", name)) for name in ("ann", "ann", "ann", "ann")}
    assert {text for _, text in greeted} == {"ann False 0"}
    pids = {int(text.split()[-1]) for text, _ in greeted}
    assert pids <= set(lab.workers[0].children), "kept for the life of the process, not longer"


def test_a_task_that_calls_itself_in_the_process(lab: Lab) -> None:
    assert lab.run("recursive", 2) == [[False, False]] * 3


# ---------------------------------------------------------------------------- Request classes


def notes(lab: Lab, task_id: str) -> list[str]:
    """What the Request of a task was told, in order, without its id."""
    return [f"{event}{token.removeprefix(task_id)}" for event, token, _ in lab.ledger.lines() if token[:36] == task_id]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("return", ["accepted"]),
        ("fail", ["accepted", "failure-ValueError"]),
        ("retry", ["accepted", "failure-Retry", "retry", "accepted"]),
    ],
)
def test_a_request_class_of_the_application_is_told(lab: Lab, how: str, told: list[str]) -> None:
    sent = lab.send("requested", how)
    sent.get(timeout=RESULT_S, propagate=False)
    # Celery puts a class of its own on top, which replaces on_success and execute_using_pool.
    eventually(lambda: sorted(notes(lab, sent.id)) == sorted(told), saying=f"{told}, has {notes(lab, sent.id)}")


def test_a_request_class_is_told_of_time_limits(lab: Lab) -> None:
    soft = lab.send("requested", "sleep", soft_time_limit=1)
    hard = lab.send("requested", "sleep", time_limit=1)
    assert soft.get(timeout=RESULT_S) == "soft"
    wait_state(lab, hard.id, "FAILURE")
    eventually(lambda: "timeout-hard-1" in notes(lab, hard.id), saying=f"{notes(lab, hard.id)}")
    eventually(lambda: "timeout-soft-1" in notes(lab, soft.id), saying=f"{notes(lab, soft.id)}")


# ---------------------------------------------------------------------------- states


def test_an_announced_error_is_logged_as_information(lab: Lab) -> None:
    announced, not_announced = lab.send("throws", True), lab.send("throws", False)
    for sent in (announced, not_announced):
        wait_state(lab, sent.id, "FAILURE")
    worker = lab.workers[0]
    assert "INFO" in worker.wait_log(rf"t.throws\[{announced.id}\] raised expected: Expected")[0]
    assert "ERROR" in worker.wait_log(rf"t.throws\[{not_announced.id}\] raised unexpected: ValueError")[0]


def test_a_state_of_its_own_is_seen_and_then_replaced(lab: Lab) -> None:
    sent = lab.send("progress", "gate")
    record = wait_state(lab, sent.id, "PROGRESS")
    assert record["result"] == {"done": 3, "of": 4}
    lab.ledger.open_gate("gate")
    assert sent.get(timeout=RESULT_S) == "done"


def test_a_task_may_set_the_state_of_another(lab: Lab) -> None:
    other = "11111111-2222-4333-8444-000000000001"
    lab.run("other_state", other)
    assert stored(lab, other)["status"] == "SEEN"
    assert stored(lab, other)["result"] == [1, 2]


def test_a_task_without_trail_has_no_children(lab: Lab) -> None:
    sent = lab.send("untracked")
    assert sent.get(timeout=RESULT_S) == "sent"
    assert stored(lab, sent.id)["children"] == []


# ---------------------------------------------------------------------------- arguments


def test_pydantic_models_come_and_go(lab: Lab) -> None:
    assert lab.run("point", {"x": 1}, 2) == {"total": 12.0}
    assert lab.run("point_context", {"x": 1, "y": 2}) == {"x": 1, "y": 2}


def test_a_pydantic_model_refuses_what_does_not_fit(lab: Lab) -> None:
    assert lab.run("point", {"x": "1"}) == {"total": 6.0}
    for name, where in (("point", {"x": "one"}), ("point_strict", {"x": "1"})):
        sent = lab.send(name, where)
        record = wait_state(lab, sent.id, "FAILURE")
        assert record["result"]["exc_type"] == "ValidationError"


def test_a_signature_that_does_not_fit(lab: Lab) -> None:
    with pytest.raises(TypeError):
        lab.send("typed", 1, 2)
    record = wait_state(lab, lab.send("untyped", 1, 2).id, "FAILURE")
    assert record["result"]["exc_type"] == "TypeError"


# ---------------------------------------------------------------------------- retries


def test_backoff_with_jitter_stays_below_its_maximum(lab: Lab) -> None:
    before = datetime.now().astimezone()
    sent = lab.send("jittered")
    wait_state(lab, sent.id, "FAILURE")
    etas = [token.split("=")[1] for token in lab.ledger.tokens("eta") if token.startswith(sent.id)]
    assert len(etas) == 3
    assert etas[0] == ""
    for eta in filter(None, etas):
        assert datetime.fromisoformat(eta) - before < timedelta(seconds=3 * 2 + 1)


@pytest.mark.parametrize(("key", "attempts"), [(True, 1), (False, 4)])
def test_errors_that_are_not_to_be_retried(lab: Lab, key: bool, attempts: int) -> None:
    sent = lab.send("chosen", key)
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"]["exc_type"] == ("KeyError" if key else "IndexError")
    assert lab.ledger.count("attempt", sent.id) == attempts


def test_retries_without_end(lab: Lab) -> None:
    assert lab.run("patient", 8) == 8


def test_a_retry_that_was_raised_by_hand_is_not_sent(lab: Lab) -> None:
    sent = lab.send("raised_retry")
    wait_state(lab, sent.id, "RETRY")


# ---------------------------------------------------------------------------- redelivered successes


def test_a_redelivered_success_does_not_run_again_if_that_is_wanted(other_lab: Lab) -> None:
    other_lab.use("tests.apps.life", worker_deduplicate_successful_tasks=True)
    worker = other_lab.worker()
    sent = other_lab.send("stored_then_requeued", link=other_lab.task("throws").si(True))
    worker.wait_log(rf"{sent.id}\] ignored|already completed successfully")
    eventually(other_lab.idle)
    assert other_lab.ledger.count("ran", sent.id) == 1
    assert stored(other_lab, sent.id)["result"] == "first"
    worker.wait_log(r"Task t\.throws\[.*\] raised expected")


# ---------------------------------------------------------------------------- lost children


@pytest.mark.parametrize("name", ["die_retry", "die_retry_early"])
def test_a_lost_task_is_retried(lab: Lab, name: str) -> None:
    sent = lab.send(name, "kill", f"{name}-token")
    assert sent.get(timeout=RESULT_S) == "survived"


def test_a_lost_task_without_retries_left_is_a_failure(lab: Lab) -> None:
    sent = lab.send("die_retry_once", "kill")
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"]["exc_type"] == "WorkerLostError"
