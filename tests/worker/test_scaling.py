"""The number of children follows the work; no child is killed for it."""

from __future__ import annotations

import time

import pytest

from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab

pytestmark = pytest.mark.fastq_only("a stock worker's autoscaler takes its time, and kills")


def test_a_burst_is_met_within_a_second_and_children_leave_when_idle(lab: Lab) -> None:
    worker = lab.worker("--autoscale", "8,1", env={"AUTOSCALE_KEEPALIVE": "1"})
    lab.run("add", 1, 1)
    assert len(worker.children) == 1
    sent = [lab.send("hold", f"burst-{n}") for n in range(8)]
    began = time.monotonic()
    eventually(lambda: sum(lab.ledger.counts("start").values()) == 8, within_s=10)
    assert time.monotonic() - began < 3, "a second, on a machine that is not busy"
    assert len(worker.children) == 8
    worker.wait_log(r"Children: \d instead of 1: \d+ wait, \d+ run")
    for n in range(8):
        lab.ledger.open_gate(f"burst-{n}")
    assert [result.get(timeout=RESULT_S) for result in sent] == [f"burst-{n}" for n in range(8)]
    eventually(lambda: len(worker.children) == 1, within_s=10)
    assert not worker.log_lines("was killed|WorkerLost")
    assert lab.run("add", 1, 1) == 2


def test_a_busy_child_is_never_sent_away(lab: Lab) -> None:
    """celery #2682, billiard #323."""
    worker = lab.worker("--autoscale", "4,1", env={"AUTOSCALE_KEEPALIVE": "0.3"})
    sent = [lab.send("hold", f"long-{n}") for n in range(4)]
    eventually(lambda: sum(lab.ledger.counts("start").values()) == 4)
    lab.ledger.open_gate("long-0")
    lab.ledger.open_gate("long-2")
    eventually(lambda: len(worker.children) == 2, within_s=10, saying="the idle ones leave")
    lab.ledger.open_gate("long-1")
    lab.ledger.open_gate("long-3")
    assert [result.get(timeout=RESULT_S) for result in sent] == [f"long-{n}" for n in range(4)]
    assert set(lab.ledger.counts("start").values()) == {1}


def test_auto_says_why(lab: Lab) -> None:
    worker = lab.worker("-c", "auto")
    lab.run("add", 1, 1)
    [line] = worker.wait_log("concurrency auto: ")
    assert " CPUs allowed" in line
    assert "MiB of memory available" in line


def test_autoscale_auto_lets_waiting_tasks_have_more_children_than_cores(lab: Lab) -> None:
    import os

    cores = len(os.sched_getaffinity(0))
    worker = lab.worker("--autoscale", "auto")
    sent = [lab.send("hold", f"io-{n}") for n in range(cores * 3)]
    eventually(lambda: len(lab.ledger.counts("start")) == cores * 3, within_s=15)
    assert len(worker.children) >= cores * 3
    for n in range(cores * 3):
        lab.ledger.open_gate(f"io-{n}")
    assert len([result.get(timeout=RESULT_S) for result in sent]) == cores * 3
