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


def flying(lab: Lab, count: int) -> bool:
    return len(lab.ledger.tokens("start")) == count


def naps(lab: Lab, name: str, count: int, seconds: float = 60.0) -> list[Any]:
    sent = [lab.send(name, f"{name}-{n}", seconds) for n in range(count)]
    eventually(lambda: flying(lab, count))
    return sent


def test_many_are_in_flight_in_one_child_and_the_quick_overtake_the_slow(loops: Lab) -> None:
    loops.worker()
    slow = loops.send("nap", "slow", 1.5)
    eventually(lambda: flying(loops, 1))
    quick = [loops.send(name, n) for name in ("quick", "quick_late", "nothing") for n in range(100)]
    assert [result.get(timeout=RESULT_S) for result in quick] == [*range(100)] * 3
    assert loops.ledger.count("end", "slow") == 0
    assert slow.get(timeout=RESULT_S) == "slow"
    assert len(loops.workers[0].children) == 1
    eventually(loops.idle)


def test_a_killed_child_loses_early_tasks_and_returns_late_ones(loops: Lab) -> None:
    worker = loops.worker()
    early, late = naps(loops, "nap", 25), [loops.send("nap_late", f"late-{n}", 0.5) for n in range(25)]
    eventually(lambda: flying(loops, 50))
    os.kill(worker.children[0], signal.SIGKILL)
    for sent in early:
        wait_state(loops, sent.id, "FAILURE")
    assert "WorkerLostError" in str(stored(loops, early[0].id)["result"]) or stored(loops, early[0].id)["traceback"]
    assert [sent.get(timeout=RESULT_S) for sent in late] == [f"late-{n}" for n in range(25)]
    assert all(loops.ledger.count("start", f"nap-{n}") == 1 for n in range(25))
    eventually(loops.idle)


def test_a_killed_worker_leaves_what_others_run_again_if_it_was_late(loops: Lab) -> None:
    worker = loops.worker()
    naps(loops, "nap", 10)
    late = [loops.send("nap_late", f"late-{n}", 0.5) for n in range(10)]
    eventually(lambda: flying(loops, 20))
    worker.kill()
    loops.worker(name="other")
    assert [sent.get(timeout=60) for sent in late] == [f"late-{n}" for n in range(10)]
    assert all(loops.ledger.count("start", f"nap-{n}") == 1 for n in range(10))


def test_a_hard_limit_ends_one_task(loops: Lab) -> None:
    loops.worker()
    other = loops.send("nap", "other", 2.0)
    sent = loops.send("nap_short", "short", 60)
    assert "TimeLimitExceeded" in repr(wait_state(loops, sent.id, "FAILURE")["result"])
    assert loops.ledger.count("cancelled", "short") == 1
    assert other.get(timeout=RESULT_S) == "other"
    assert len({pid for _event, _token, pid in loops.ledger.lines()}) == 1


def test_a_loop_that_a_task_holds_up_is_ended_and_the_innocent_run_again_if_they_may(loops: Lab) -> None:
    loops.worker()
    early, late = loops.send("nap", "early", 60), loops.send("nap_late", "late", 3.0)
    eventually(lambda: flying(loops, 2))
    stuck = loops.send("block_short", "stuck", 60)
    assert "TimeLimitExceeded" in repr(wait_state(loops, stuck.id, "FAILURE")["result"])
    assert "held up the event loop" in repr(wait_state(loops, early.id, "FAILURE")["result"])
    assert late.get(timeout=RESULT_S) == "late"
    assert loops.ledger.count("start", "late") == 2


def test_one_of_many_is_revoked(loops: Lab) -> None:
    loops.worker()
    sent = naps(loops, "nap", 5, 2.0)
    assert ask(loops, "revoke", sent[3].id, terminate=True) == {"ok": f"terminate: {sent[3].id}"}
    wait_state(loops, sent[3].id, "REVOKED")
    assert loops.ledger.tokens("cancelled") == ["nap-3"]
    assert [sent[n].get(timeout=RESULT_S) for n in (0, 1, 2, 4)] == ["nap-0", "nap-1", "nap-2", "nap-4"]
    assert len({pid for _event, _token, pid in loops.ledger.lines()}) == 1


def test_all_that_are_in_flight_are_told_to_whoever_asks(loops: Lab) -> None:
    loops.worker()
    sent = naps(loops, "nap", 7, 1.0)
    [[*infos]] = loops.app.control.inspect(limit=1, timeout=10).active().values()
    assert {info["id"] for info in infos} == {one.id for one in sent}


def test_a_worker_that_stops_waits_for_all_that_are_in_flight(loops: Lab) -> None:
    worker = loops.worker()
    naps(loops, "nap", 20, 1.0)
    worker.stop()
    assert len(loops.ledger.tokens("end")) == 20
    loops.assert_nothing_held()


def test_what_is_in_flight_at_the_end_of_the_shutdown_timeout_goes_back_if_it_may(loops: Lab) -> None:
    worker = loops.worker("--shutdown-timeout", "0.5")
    early, late = naps(loops, "nap", 3), [loops.send("nap_late", f"late-{n}", 60) for n in range(3)]
    eventually(lambda: flying(loops, 6))
    worker.stop()
    assert loops.db.length("celery") == 3
    assert [stored(loops, sent.id)["status"] for sent in early] == ["RETRY"] * 3
    assert not stored(loops, late[0].id) or stored(loops, late[0].id)["status"] != "FAILURE"
    loops.db.client.delete("celery")


def test_children_are_replaced_while_tasks_are_in_flight(loops: Lab) -> None:
    loops.worker("--max-tasks-per-child", "50")
    slow = loops.send("nap", "slow", 2.0)
    quick = [loops.send("quick", n) for n in range(500)]
    assert [result.get(timeout=RESULT_S) for result in quick] == [*range(500)]
    assert slow.get(timeout=RESULT_S) == "slow"
    eventually(loops.idle)
