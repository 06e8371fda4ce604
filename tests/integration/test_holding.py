"""How many messages a worker holds: settings that bound it."""

from __future__ import annotations

import pytest

from tests.eventually import eventually, steadily
from tests.fix_lab import RESULT_S, Lab


def test_no_more_etas_than_allowed(lab: Lab) -> None:
    lab.use(worker_eta_task_limit=5)
    for _ in range(12):
        lab.send("mark", "later", countdown=3600)
    lab.worker(concurrency=2)
    eventually(lambda: sum(lab.held().values()) == 5)
    steadily(lambda: sum(lab.held().values()) == 5 and lab.db.length() == 7, for_s=0.3)


@pytest.mark.fastq_only("a stock worker's prefetch count falls to the limit, and then its tasks wait for each other")
def test_a_limit_of_etas_does_not_hold_up_others(lab: Lab) -> None:
    lab.use(worker_eta_task_limit=5)
    lab.worker(concurrency=2)
    for _ in range(4):
        lab.send("mark", "later", countdown=3600)
    sent = [lab.send("mark", f"now-{number}") for number in range(50)]
    assert [result.get(timeout=RESULT_S) for result in sent] == [f"now-{number}" for number in range(50)]


def test_nothing_is_held_ahead_if_that_is_wanted(lab: Lab) -> None:
    lab.use(worker_disable_prefetch=True)
    lab.worker(concurrency=2)
    tokens = [f"ahead-{number}" for number in range(6)]
    sent = [lab.send("hold", token) for token in tokens]
    eventually(lambda: len(lab.ledger.tokens("start")) == 2)
    steadily(lambda: lab.db.length() == 4, for_s=0.3)
    for token in tokens:
        lab.ledger.open_gate(token)
    assert [result.get(timeout=RESULT_S) for result in sent] == tokens


def test_a_setting_without_effect_is_named(lab: Lab) -> None:
    lab.use(worker_cancel_long_running_tasks_on_connection_loss=True)
    worker = lab.worker()
    if lab.engine == "fastq":
        assert worker.log_lines("worker_cancel_long_running_tasks_on_connection_loss has no effect")
