"""Revoking: what waits is not started, what runs may be ended, and everybody who has to know is told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.control import ask
from tests.eventually import eventually
from tests.fix_events import Listener
from tests.fix_lab import RESULT_S, Lab, stored, wait_state


def terminated(lab: Lab, task_id: str) -> dict[str, Any]:
    """The stored result of a task that was ended by a signal."""
    record = wait_state(lab, task_id, "REVOKED")
    assert record["result"]["exc_type"] == "TaskRevokedError"
    assert record["result"]["exc_message"] == ["terminated"]
    return record


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """One worker with one child for the module."""
    module_lab.use("tests.apps.plain")
    module_lab.worker("-E", concurrency=1)
    return module_lab


def active(lab: Lab) -> list[dict[str, Any]]:
    """What runs, as the worker says."""
    found = lab.app.control.inspect(timeout=5, limit=1).active() or {}
    return [request for requests in found.values() for request in requests]


def hold(lab: Lab, token: str, **options: Any) -> Any:
    """A task that runs until the gate `token` is opened."""
    sent = lab.send("hold", token, **options)
    eventually(lambda: lab.ledger.count("start", token) == 1)
    return sent


def test_a_task_that_waits_behind_another_is_not_started(lab: Lab) -> None:
    blocker = hold(lab, "r-block")
    sent = lab.send("mark", "r-waits")
    others = [lab.send("mark", f"r-other-{n}") for n in range(3)]
    assert ask(lab, "revoke", sent.id) == {"ok": f"tasks {{'{sent.id}'}} flagged as revoked"}
    lab.ledger.open_gate("r-block")
    record = wait_state(lab, sent.id, "REVOKED")
    assert record["result"]["exc_type"] == "TaskRevokedError"
    assert record["result"]["exc_message"] == ["revoked"]
    assert [other.get(timeout=RESULT_S) for other in (blocker, *others)]
    assert lab.ledger.count("ran", "r-waits") == 0
    eventually(lab.idle)


def test_a_task_that_was_revoked_before_it_was_sent(lab: Lab) -> None:
    task_id = "sent-later"
    ask(lab, "revoke", task_id)
    lab.send("mark", "r-later", task_id=task_id)
    wait_state(lab, task_id, "REVOKED")
    lab.run("mark", "r-after")
    assert lab.ledger.count("ran", "r-later") == 0
    lab.workers[0].wait_log(rf"Discarding revoked task: t.mark\[{task_id}\]")


def test_what_nobody_has_is_revoked_in_the_result_store_at_once(lab: Lab) -> None:
    ask(lab, "revoke", ["nobody-1", "nobody-2"])
    wait_state(lab, "nobody-1", "REVOKED")
    wait_state(lab, "nobody-2", "REVOKED")


def test_an_end_is_not_overwritten(lab: Lab) -> None:
    done = lab.send("add", 1, 2)
    assert done.get(timeout=RESULT_S) == 3
    ask(lab, "revoke", done.id)
    lab.run("add", 1, 1)
    assert stored(lab, done.id)["status"] == "SUCCESS"


def test_a_task_with_an_eta(lab: Lab) -> None:
    sent = lab.send("mark", "r-eta", countdown=1.0)
    ask(lab, "revoke", sent.id)
    wait_state(lab, sent.id, "REVOKED")
    eventually(lab.idle)
    assert lab.ledger.count("ran", "r-eta") == 0


@pytest.mark.parametrize("name", ["nap", "nap_late"])
def test_a_running_task_is_ended(lab: Lab, name: str) -> None:
    sent = lab.send(name, f"r-{name}", 60)
    eventually(lambda: lab.ledger.count("start", f"r-{name}") == 1)
    victim = lab.ledger.pid_of("start", f"r-{name}")
    assert ask(lab, "terminate", sent.id, signal="SIGKILL") == {"ok": f"terminate: {sent.id}"}
    terminated(lab, sent.id)
    assert lab.run("add", 2, 2) == 4
    eventually(lambda: victim not in lab.workers[0].children)
    eventually(lab.idle)


@pytest.mark.parametrize("name", ["nap", "nap_late"])
def test_terminate_is_by_term_unless_another_signal_is_named(lab: Lab, name: str) -> None:
    token = f"r-term-{name}"
    sent = lab.send(name, token, 60)
    eventually(lambda: lab.ledger.count("start", token) == 1)
    assert ask(lab, "revoke", sent.id, terminate=True) == {"ok": f"terminate: {sent.id}"}
    terminated(lab, sent.id)
    assert lab.run("add", 2, 3) == 5


def test_those_behind_a_terminated_task_are_run(lab: Lab) -> None:
    sent = lab.send("nap", "r-front", 60)
    eventually(lambda: lab.ledger.count("start", "r-front") == 1)
    behind = [lab.send("mark", f"r-behind-{n}") for n in range(5)]
    ask(lab, "terminate", sent.id, signal="KILL")
    assert [result.get(timeout=RESULT_S) for result in behind] == [f"r-behind-{n}" for n in range(5)]


@pytest.mark.fastq_only("a stock worker stores REVOKED first, and the task's own end over it")
def test_a_task_may_survive_the_signal_of_the_soft_limit(lab: Lab) -> None:
    sent = lab.send("soft", "r-soft")
    before = eventually(lambda: [r["worker_pid"] for r in active(lab) if r["id"] == sent.id])
    ask(lab, "terminate", sent.id, signal="SIGUSR1")
    assert sent.get(timeout=RESULT_S) == "cleaned up"
    assert before[0] in lab.workers[0].children


def test_monitors_hear_of_it(lab: Lab) -> None:
    with Listener(lab.client(), lab.db) as listener:
        run = lab.send("nap", "r-heard", 60)
        eventually(lambda: lab.ledger.count("start", "r-heard") == 1)
        waits = lab.send("mark", "r-heard-waits")
        listener.wait(waits.id, "task-received")
        ask(lab, "revoke", waits.id)
        ask(lab, "terminate", run.id, signal="SIGKILL")
        assert listener.wait(run.id, "task-revoked") == ["task-received", "task-started", "task-revoked"]
        assert listener.wait(waits.id, "task-revoked") == ["task-received", "task-revoked"]
    ends = [listener.of(task_id)[-1] for task_id in (run.id, waits.id)]
    assert [(e["terminated"], e["signum"], e["expired"]) for e in ends] == [(True, 9, False), (False, None, False)]


def test_unknown_ids_cannot_be_terminated(lab: Lab) -> None:
    assert ask(lab, "terminate", "unknown-id") == {"ok": "terminate: tasks unknown"}


def test_a_signal_has_to_be_one(lab: Lab) -> None:
    assert "AttributeError" in ask(lab, "terminate", "unknown-id", signal="NOSUCH")["error"]
    assert "TypeError" in ask(lab, "terminate", "unknown-id", signal="term")["error"]


def test_by_stamp(lab: Lab) -> None:
    hold(lab, "r-stamp-block")
    kept = stamped(lab, "r-stamp-kept", "blue")
    gone = stamped(lab, "r-stamp-gone", "red")
    reply = ask(lab, "revoke_by_stamped_headers", {"colour": ["red"]})
    assert reply == {"ok": "headers {'colour': ['red']} flagged as revoked, but not terminated"}
    lab.ledger.open_gate("r-stamp-block")
    assert kept.get(timeout=RESULT_S) == "r-stamp-kept"
    wait_state(lab, gone.id, "REVOKED")
    later = stamped(lab, "r-stamp-later", "red")
    wait_state(lab, later.id, "REVOKED")
    assert lab.ledger.count("ran", "r-stamp-gone") == lab.ledger.count("ran", "r-stamp-later") == 0


def test_running_tasks_by_stamp(lab: Lab) -> None:
    sent = lab.task("nap").s("r-stamp-runs", 60)
    sent.stamp(kind="slow", append_stamps=True)
    result = sent.apply_async()
    eventually(lambda: lab.ledger.count("start", "r-stamp-runs") == 1)
    reply = ask(lab, "revoke_by_stamped_headers", {"kind": "slow"}, terminate=True, signal="SIGKILL")
    assert reply == {"ok": "headers defaultdict(<class 'set'>, {'kind': {'slow'}}) revoked"}
    terminated(lab, result.id)
    assert lab.run("add", 3, 3) == 6


def stamped(lab: Lab, token: str, colour: str) -> Any:
    """A task with the stamp `colour`."""
    signature = lab.task("mark").s(token)
    signature.stamp(colour=colour, append_stamps=True)
    return signature.apply_async()
