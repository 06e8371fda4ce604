"""A worker whose children have event loops, with a real Redis: deaths, limits, revocation, leaving."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.control import ask
from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab, stored, wait_state

pytestmark = pytest.mark.fastq_only("Celery has no coroutine tasks")


@pytest.fixture
def loops(lab: Lab) -> Lab:
    lab.use("tests.apps.loops")
    return lab


@pytest.fixture(scope="module")
def shared(module_lab: Lab) -> Lab:
    """One worker with one child for the tests that leave it as it was; each uses tokens of its own."""
    module_lab.use("tests.apps.loops")
    module_lab.worker()
    return module_lab


def flying(lab: Lab, *tokens: str) -> bool:
    return all(lab.ledger.count("start", token) for token in tokens)


def naps(lab: Lab, name: str, token: str, count: int, seconds: float = 60.0) -> list[Any]:
    tokens = [f"{token}-{n}" for n in range(count)]
    sent = [lab.send(name, token, seconds) for token in tokens]
    eventually(lambda: flying(lab, *tokens))
    return sent


def homes(lab: Lab, *prefixes: str) -> set[int]:
    """Processes that have run tasks with these tokens."""
    return {pid for _event, token, pid in lab.ledger.lines() if token.startswith(prefixes)}


def test_many_are_in_flight_in_one_child_and_the_quick_overtake_the_slow(shared: Lab) -> None:
    slow = shared.send("nap", "slow", 1.2)
    eventually(lambda: flying(shared, "slow"))
    quick = [shared.send(name, n) for name in ("quick", "quick_late", "nothing") for n in range(60)]
    assert [result.get(timeout=RESULT_S) for result in quick] == [*range(60)] * 3
    assert shared.ledger.count("end", "slow") == 0
    assert slow.get(timeout=RESULT_S) == "slow"
    assert len(shared.workers[0].children) == 1
    eventually(shared.idle)


def test_they_are_told_revoked_and_limited_one_by_one(shared: Lab) -> None:
    sent = naps(shared, "nap", "one", 5, 1.4)
    short = shared.send("nap_short", "one-short", 60)
    eventually(lambda: flying(shared, "one-short"))
    [[*infos]] = shared.app.control.inspect(limit=1, timeout=10).active().values()
    assert {info["id"] for info in infos} == {one.id for one in [*sent, short]}
    assert ask(shared, "revoke", sent[3].id, terminate=True) == {"ok": f"terminate: {sent[3].id}"}
    wait_state(shared, sent[3].id, "REVOKED")
    assert "TimeLimitExceeded" in repr(wait_state(shared, short.id, "FAILURE")["result"])
    assert [sent[n].get(timeout=RESULT_S) for n in (0, 1, 2, 4)] == ["one-0", "one-1", "one-2", "one-4"]
    assert shared.ledger.tokens("cancelled") == ["one-3", "one-short"]
    assert len(homes(shared, "one-")) == 1


def test_a_killed_child_loses_early_tasks_and_returns_late_ones(shared: Lab) -> None:
    early = naps(shared, "nap", "lost", 25)
    late = naps(shared, "nap_late", "back", 25, 0.4)
    os.kill(shared.workers[0].children[0], signal.SIGKILL)
    for sent in early:
        wait_state(shared, sent.id, "FAILURE")
    assert "WorkerLostError" in str(stored(shared, early[0].id)["result"]) or stored(shared, early[0].id)["traceback"]
    assert [sent.get(timeout=RESULT_S) for sent in late] == [f"back-{n}" for n in range(25)]
    assert all(shared.ledger.count("start", f"lost-{n}") == 1 for n in range(25))
    eventually(shared.idle)


def test_a_loop_that_a_task_holds_up_is_ended_and_the_innocent_run_again_if_they_may(shared: Lab) -> None:
    [early], [late] = naps(shared, "nap", "early", 1), naps(shared, "nap_late", "late", 1, 1.0)
    stuck = shared.send("block", "stuck", 60, time_limit=0.3)
    assert "TimeLimitExceeded" in repr(wait_state(shared, stuck.id, "FAILURE")["result"])
    assert "held up the event loop" in repr(wait_state(shared, early.id, "FAILURE")["result"])
    assert late.get(timeout=RESULT_S) == "late-0"
    assert shared.ledger.count("start", "late-0") == 2


def test_a_killed_worker_leaves_what_others_run_again_if_it_was_late(loops: Lab) -> None:
    worker = loops.worker()
    naps(loops, "nap", "nap", 10)
    late = naps(loops, "nap_late", "late", 10, 0.4)
    worker.kill()
    loops.worker(name="other")
    assert [sent.get(timeout=60) for sent in late] == [f"late-{n}" for n in range(10)]
    assert all(loops.ledger.count("start", f"nap-{n}") == 1 for n in range(10))


def test_a_worker_that_stops_waits_for_all_that_are_in_flight(loops: Lab) -> None:
    worker = loops.worker()
    naps(loops, "nap", "nap", 20, 0.7)
    worker.stop()
    assert len(loops.ledger.tokens("end")) == 20
    loops.assert_nothing_held()


def test_what_is_in_flight_at_the_end_of_the_shutdown_timeout_goes_back_if_it_may(loops: Lab) -> None:
    worker = loops.worker("--shutdown-timeout", "0.3")
    early, late = naps(loops, "nap", "nap", 3), naps(loops, "nap_late", "late", 3)
    worker.stop()
    assert loops.db.length("celery") == 3
    assert [stored(loops, sent.id)["status"] for sent in early] == ["RETRY"] * 3
    assert not stored(loops, late[0].id) or stored(loops, late[0].id)["status"] != "FAILURE"
    loops.db.client.delete("celery")


def test_children_are_replaced_while_tasks_are_in_flight(loops: Lab) -> None:
    loops.worker("--max-tasks-per-child", "50")
    slow = loops.send("nap", "slow", 1.5)
    quick = [loops.send("quick", n) for n in range(250)]
    assert [result.get(timeout=RESULT_S) for result in quick] == [*range(250)]
    assert slow.get(timeout=RESULT_S) == "slow"
    eventually(loops.idle)
