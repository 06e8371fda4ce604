"""A stock worker and ours on the same queue, a stock producer, stock results."""

from __future__ import annotations

import pytest
from celery import chord, group

from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    return with_both(module_lab)


def with_both(lab: Lab) -> Lab:
    """Two workers on one queue: the engine under test and celery."""
    lab.worker(concurrency=2)
    lab.worker(engine="celery", concurrency=2)
    return lab


def test_every_task_runs_exactly_once(lab: Lab) -> None:
    tokens = [f"mixed-{number}" for number in range(400)]
    results = [lab.send("mark", token) for token in tokens]
    assert [result.get(timeout=60) for result in results] == tokens
    counts = lab.ledger.counts("ran")
    assert all(counts[token] == 1 for token in tokens)


def test_both_workers_get_work(other_lab: Lab) -> None:
    """More tasks at their gates than a worker prefetches that has seen no short ones: every child of both has one."""
    lab = with_both(other_lab)
    names = [f"gate-{number}" for number in range(24)]
    held = [lab.send("hold_late", name) for name in names]
    try:
        eventually(lambda: len(lab.ledger.tokens("start")) >= 4, within_s=20)
        pids = {pid for event, _token, pid in lab.ledger.lines() if event == "start"}
        assert all(pids >= set(worker.children) for worker in lab.workers)
    finally:
        for name in names:
            lab.ledger.open_gate(name)
    assert [result.get(timeout=RESULT_S) for result in held] == names


def test_chords_count_across_both(lab: Lab) -> None:
    add, xsum = lab.task("add"), lab.task("xsum")
    sent = [chord([add.s(n, n) for n in range(12)], xsum.s())() for _ in range(10)]
    assert [result.get(timeout=30) for result in sent] == [132] * 10


def test_chains_and_retries_cross_over(lab: Lab) -> None:
    add = lab.task("add")
    chains = [(add.s(n, 1) | add.s(1) | add.s(1))() for n in range(30)]
    assert [result.get(timeout=30) for result in chains] == [n + 3 for n in range(30)]
    retries = group(lab.task("retry").s(2) for _ in range(10))()
    assert retries.get(timeout=30) == [2] * 10


def test_late_acknowledged_tasks_run_once(lab: Lab) -> None:
    tokens = [f"late-{number}" for number in range(200)]
    group(lab.task("mark_late").s(token) for token in tokens)().get(timeout=60)
    counts = lab.ledger.counts("ran")
    assert all(counts[token] == 1 for token in tokens)
    eventually(lab.idle)
