"""Children are replaced before they cost too much, and nobody notices."""

from __future__ import annotations

import re

import pytest

from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab, wait_state

pytestmark = pytest.mark.fastq_only("a stock worker looks at shared memory, and after the task only")

#: Far above what a child of the test application has of its own, which is about 10 MiB.
LIMIT_KIB = 80 * 1024


def test_a_child_that_has_grown_is_replaced_after_its_task(lab: Lab) -> None:
    worker = lab.worker("--max-memory-per-child", str(LIMIT_KIB))
    small = lab.run("swell", "small", 20)
    assert lab.run("pid") == small
    large = lab.send("swell", "large", 150, 1.5)
    eventually(lambda: lab.ledger.count("grown", "large") == 1)
    worker.wait_log(r"will be replaced: it has \d+\.\d MiB of its own, --max-memory-per-child is 80\.0 MiB")
    eventually(lambda: len(worker.children) == 2, saying="the replacement is there before it is needed")
    assert large.get(timeout=RESULT_S) == small, "the task was let finish"
    assert lab.run("pid") != small
    eventually(lambda: len(worker.children) == 1)


def test_a_replacement_waits_until_the_old_one_is_through(lab: Lab) -> None:
    """Never more tasks at a time than children were asked for."""
    lab.worker("--max-memory-per-child", str(LIMIT_KIB))
    first = lab.send("swell", "first", 150, 1.0)
    eventually(lambda: lab.ledger.count("grown", "first") == 1)
    second = lab.send("mark", "second")
    assert first.get(timeout=RESULT_S) != second.get(timeout=RESULT_S)
    events = [(event, token) for event, token, _pid in lab.ledger.lines()]
    assert events == [("grown", "first"), ("end", "first"), ("ran", "second")]


def test_a_leak_is_found_between_tasks(lab: Lab) -> None:
    lab.worker("--max-memory-per-child", str(LIMIT_KIB))
    leaking = lab.task("swell").apply_async(("leak", 150), {"keep": True}).get(timeout=RESULT_S)
    eventually(lambda: lab.run("pid") != leaking, within_s=10)


def test_above_the_hard_limit_a_task_gets_an_exception(lab: Lab) -> None:
    worker = lab.worker("--max-memory-hard", str(LIMIT_KIB))
    sent = lab.send("swell", "hard", 95, 20.0)
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"]["exc_type"] == "MemoryLimitExceeded"
    assert worker.log_lines(rf"Memory limit \(80\.0 MiB\) exceeded for t\.swell\[{sent.id}\]")
    assert not lab.ledger.count("end", "hard")
    assert lab.run("add", 1, 1) == 2


def test_what_does_not_listen_is_killed(lab: Lab) -> None:
    worker = lab.worker("--max-memory-hard", str(LIMIT_KIB))
    sent = lab.send("swell_stubborn", "stubborn", 5)
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"]["exc_type"] == "WorkerLostError"
    assert re.search(r"exceeded its memory limit: it had \d+ KiB", record["result"]["exc_message"][0])
    assert lab.ledger.count("told", "stubborn") == 1
    assert worker.alive
    assert lab.run("add", 1, 1) == 2


def test_a_limit_below_the_base_ends_with_one_line(lab: Lab) -> None:
    """celery #4125: such a worker replaces every child for ever."""
    sent = lab.send("add", 1, 1)
    worker = lab.worker("--max-memory-per-child", "100", ready=False)
    assert worker.wait() == 2
    [line] = worker.log_lines("--max-memory-per-child is 100 KiB, and a child of this application has ")
    assert "Set it to" in line
    assert len(lab.db.entries()) == 1, "nothing was claimed"
    lab.worker("--max-memory-per-child", str(LIMIT_KIB))
    assert sent.get(timeout=RESULT_S) == 2


def test_old_children_are_replaced(lab: Lab) -> None:
    worker = lab.worker("--max-age-per-child", "1")
    first = lab.run("pid")
    eventually(lambda: lab.run("pid") != first, within_s=10)
    assert worker.log_lines("older than --max-age-per-child")


def test_with_one_task_each_another_child_is_warm(lab: Lab) -> None:
    worker = lab.worker("--max-tasks-per-child", "1")
    sent = lab.send("hold", "one")
    eventually(lambda: lab.ledger.count("start", "one") == 1)
    eventually(lambda: len(worker.children) == 2)
    lab.ledger.open_gate("one")
    assert sent.get(timeout=RESULT_S) == "one"
    pids = [lab.run("pid") for _ in range(5)]
    assert len(set(pids)) == 5
