"""A child process ends while it runs a task: what becomes of the task, of the others, and of the worker."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab, stored, wait_state

DEATHS = {
    "segfault": (r"signal 11 \(SIGSEGV\)", "SIGSEGV"),
    "kill": (r"signal 9 \(SIGKILL\)", "SIGKILL"),
    "exit": r"exitcode 3",
    "exit0": r"exitcode 0",
}


def message_of(how: str) -> str:
    """The regular expression of Celery's text for this end."""
    found = DEATHS[how]
    return found if isinstance(found, str) else found[0]


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """One worker with two children for the module."""
    module_lab.worker(concurrency=2)
    return module_lab


@pytest.mark.parametrize("how", list(DEATHS))
@pytest.mark.parametrize("name", ["die", "die_late", "die_unacked"])
def test_the_running_task_is_a_failure(lab: Lab, name: str, how: str) -> None:
    sent = lab.send(name, how)
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"]["exc_type"] == "WorkerLostError"
    assert record["result"]["exc_module"] == "billiard.exceptions"
    assert re.search(rf"Worker exited prematurely: {message_of(how)}", record["result"]["exc_message"][0])
    assert (record["traceback"], record["children"]) == (None, [])
    assert lab.run("add", 1, 1) == 2


def test_the_replacement_is_quick(lab: Lab) -> None:
    before = set(lab.workers[0].children)
    lab.send("die", "kill")
    eventually(lambda: len(set(lab.workers[0].children)) == 2 and set(lab.workers[0].children) - before, within_s=5)


@pytest.mark.fastq_only("a stock worker needs up to a second or more")
def test_the_replacement_takes_milliseconds(lab: Lab) -> None:
    lab.run("add", 1, 1)
    pids = lab.workers[0].children
    started = time.monotonic()
    os.kill(pids[0], signal.SIGKILL)
    eventually(lambda: len(set(lab.workers[0].children) - {pids[0]}) == 2, within_s=2)
    assert time.monotonic() - started < 0.5


def test_an_idle_child_that_is_killed_takes_no_task_with_it(lab: Lab) -> None:
    victims = lab.workers[0].children
    os.kill(victims[0], signal.SIGKILL)
    eventually(lambda: victims[0] not in lab.workers[0].children)
    tokens = [f"idle-{number}" for number in range(30)]
    results = [lab.send("mark", token) for token in tokens]
    assert [result.get(timeout=RESULT_S) for result in results] == tokens


def test_others_do_not_notice(lab: Lab) -> None:
    """Tasks dealt to the child that dies are run by somebody else, once."""
    tokens = [f"other-{number}" for number in range(200)]
    results = []
    for number, token in enumerate(tokens):
        results.append(lab.send("mark", token))
        if number % 50 == 25:
            lab.send("die", "kill")
    assert [result.get(timeout=30) for result in results] == tokens
    counts = lab.ledger.counts("ran")
    assert all(counts[token] == 1 for token in tokens)


@pytest.mark.fastq_only("a stock worker names neither task nor memory")
@pytest.mark.parametrize("how", ["segfault", "kill"])
def test_the_log_names_task_signal_and_peak_memory(lab: Lab, how: str) -> None:
    sent = lab.send("die", how)
    wait_state(lab, sent.id, "FAILURE")
    name = DEATHS[how][1]
    [line] = lab.workers[0].wait_log(rf"(?=.*{sent.id})(?=.*{name})(?i:(?=.*\d ?[KMG]i?B))")
    assert "t.die" in line


def test_errbacks_of_a_lost_task_are_called(lab: Lab) -> None:
    sent = lab.send("die", "kill", link_error=lab.task("errback_old").s())
    wait_state(lab, sent.id, "FAILURE")
    eventually(lambda: lab.ledger.count("errback-old", sent.id) == 1)


def test_reject_on_worker_lost_runs_it_again(lab: Lab) -> None:
    sent = lab.send("die_requeue", "kill", "again")
    assert sent.get(timeout=RESULT_S) == "survived"
    assert lab.ledger.count("ran", "again") == 2
    eventually(lab.idle)


def test_retry_on_worker_lost_is_a_counted_retry(other_lab: Lab) -> None:
    other_lab.use(task_retry_on_worker_lost=True)
    other_lab.worker()
    sent = other_lab.task("die_late").apply_async(("kill", "retried"))
    eventually(lambda: other_lab.ledger.count("ran", "retried") >= 1)
    assert wait_state(other_lab, sent.id, "RETRY")["result"]["exc_type"] == "WorkerLostError"

    def retried() -> bool:
        texts = [*other_lab.db.entries(), *other_lab.books()]
        return any(b'"retries": 1' in text and sent.id.encode() in text for text in texts)

    eventually(retried, saying="the message of the retry waits for its time")


def test_a_result_written_before_the_end_survives_it(lab: Lab) -> None:
    """The child that stored a result dies in its next task; the first task's result stays."""
    for number in range(10):
        first, second = lab.send("mark", f"before-{number}"), lab.send("die", "exit")
        assert first.get(timeout=RESULT_S) == f"before-{number}"
        wait_state(lab, second.id, "FAILURE")
    assert stored(lab, first.id)["status"] == "SUCCESS"


def test_a_system_exit_in_a_task(lab: Lab) -> None:
    sent = lab.send("die", "sysexit")
    eventually(lambda: stored(lab, sent.id).get("status") == "FAILURE")
    assert lab.run("add", 1, 1) == 2


def test_children_are_replaced_after_their_number_of_tasks(other_lab: Lab) -> None:
    other_lab.worker("--max-tasks-per-child", "3")
    pids = [other_lab.run("pid") for _ in range(9)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]


def test_recycling_under_load_loses_and_repeats_nothing(other_lab: Lab) -> None:
    other_lab.worker("--max-tasks-per-child", "7", concurrency=2)
    tokens = [f"recycled-{number}" for number in range(100)]
    results = [other_lab.send("mark", token) for token in tokens]
    assert [result.get(timeout=60) for result in results] == tokens
    counts = other_lab.ledger.counts("ran")
    assert all(counts[token] == 1 for token in tokens)
    by_child: dict[int, int] = {}
    for _event, _token, pid in other_lab.ledger.lines():
        by_child[pid] = by_child.get(pid, 0) + 1
    assert max(by_child.values()) <= 7


@pytest.mark.fastq_only("celery has no nursery")
def test_the_nursery_is_replaced_when_it_dies(other_lab: Lab) -> None:
    worker = other_lab.worker(concurrency=2)
    first = worker.nursery
    os.kill(first, signal.SIGKILL)
    tokens = [f"nursery-{number}" for number in range(50)]
    results = [other_lab.send("mark", token) for token in tokens]
    assert [result.get(timeout=20) for result in results] == tokens
    assert worker.nursery != first


def test_everything_dies_with_the_main_process(other_lab: Lab) -> None:
    worker = other_lab.worker(concurrency=2)
    family = [worker.nursery, *worker.children]
    worker.kill()
    eventually(lambda: not worker.look(), within_s=5, saying=f"{family} followed")
