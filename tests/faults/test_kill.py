"""kill -9 at random moments under load: what may be lost, what may be repeated."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults.campaign import ROUNDS, Campaign, Victim, kill_child, kill_engine, kill_nursery
from tests.fix_lab import Lab

#: A child may be between the start of a task and the line in the ledger when it is killed.
RUNNING_PER_CHILD = 1

pytestmark = pytest.mark.timeout(120 + 60 * ROUNDS)

fastq_only = pytest.mark.fastq_only("a stock worker loses or repeats here")


@pytest.mark.parametrize("victim", [kill_child, pytest.param(kill_nursery, marks=fastq_only)])
def test_early_acknowledged_tasks_survive_a_dead_child(lab: Lab, victim: Victim) -> None:
    campaign = Campaign(lab, task="t.mark")
    worker = campaign.worker()
    for _ in range(ROUNDS):
        campaign.load()
        campaign.wait_somewhere()
        victim(worker, campaign.chance)
    killed = ROUNDS * (1 if victim is kill_child else campaign.concurrency)
    verdict = campaign.settle(tolerate=killed)
    assert not verdict.repeated, verdict
    assert len(verdict.missing) <= killed * RUNNING_PER_CHILD, verdict


@pytest.mark.parametrize(
    ("victim", "wire"),
    [
        (kill_child, "celery"),
        pytest.param(kill_child, "fastq", marks=fastq_only),
        pytest.param(kill_nursery, "celery", marks=fastq_only),
    ],
)
def test_late_acknowledged_tasks_survive_a_dead_child(lab: Lab, victim: Victim, wire: str) -> None:
    lab.use(task_reject_on_worker_lost=True)
    campaign = Campaign(lab, task="t.mark_late", wire=wire)
    worker = campaign.worker()
    for _ in range(ROUNDS):
        campaign.load()
        campaign.wait_somewhere()
        victim(worker, campaign.chance)
    killed = ROUNDS * (1 if victim is kill_child else campaign.concurrency)
    verdict = campaign.settle()
    assert not verdict.missing, verdict
    assert len(verdict.repeated) <= killed * RUNNING_PER_CHILD, verdict


@fastq_only
@pytest.mark.parametrize("wire", ["celery", "fastq"])
def test_early_acknowledged_tasks_survive_a_dead_worker(lab: Lab, wire: str) -> None:
    """Nothing unstarted is lost, nothing started runs again: a second worker of the host restores at once."""
    campaign = Campaign(lab, task="t.mark", wire=wire)
    for _ in range(ROUNDS):
        worker = campaign.worker()
        campaign.load()
        campaign.wait_somewhere()
        kill_engine(worker, campaign.chance)
    campaign.worker()
    killed = ROUNDS * campaign.concurrency
    verdict = campaign.settle(tolerate=killed)
    assert not verdict.repeated, verdict
    assert len(verdict.missing) <= killed * RUNNING_PER_CHILD, verdict
    assert not lab.held()


@fastq_only
def test_late_acknowledged_tasks_survive_a_dead_worker(lab: Lab) -> None:
    campaign, untold = Campaign(lab, task="t.mark_late"), Counter[str]()
    for _ in range(ROUNDS):
        worker = campaign.worker()
        campaign.load()
        campaign.wait_somewhere()
        kill_engine(worker, campaign.chance)
        untold.update(campaign.held())
    campaign.worker()
    verdict = campaign.settle()
    assert not verdict.missing, verdict
    # What was done and not yet told to Redis when an engine died is done again, and nothing else.
    assert all(runs <= 1 + untold[token] for token, runs in verdict.repeated.items()), verdict


@fastq_only
def test_a_worker_beside_the_dead_one_takes_over(lab: Lab) -> None:
    campaign = Campaign(lab, task="t.mark_late")
    victim, survivor = campaign.worker(), campaign.worker()
    campaign.load()
    campaign.wait_somewhere()
    kill_engine(victim, campaign.chance)
    verdict = campaign.settle()
    assert not verdict.missing, verdict
    assert survivor.alive


@fastq_only
def test_child_nursery_and_engine_are_killed_one_after_the_other(lab: Lab) -> None:
    campaign = Campaign(lab, task="t.mark")
    worker = campaign.worker()
    campaign.load()
    campaign.wait_somewhere()
    for victim in (kill_child, kill_nursery, kill_engine):
        victim(worker, campaign.chance)
    campaign.worker()
    verdict = campaign.settle(tolerate=4 * campaign.concurrency)
    assert not verdict.repeated, verdict
    assert len(verdict.missing) <= 4 * campaign.concurrency, verdict


@fastq_only
def test_stored_results_survive_the_engine(lab: Lab) -> None:
    """Late acknowledged: either the result was stored, or the task runs again and stores it."""
    campaign = Campaign(lab, task="t.mark_late")
    worker = campaign.worker()
    sent = [lab.send("ackslate") for _ in range(100)]
    kill_engine(worker, campaign.chance)
    campaign.worker()
    assert [result.get(timeout=30) for result in sent] == ["late"] * 100
