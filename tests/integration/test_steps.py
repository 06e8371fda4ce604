"""Steps that an application adds: run where that can be, named at start where not."""

from __future__ import annotations

import pytest

from tests.eventually import eventually
from tests.fix_lab import Lab


@pytest.fixture(autouse=True)
def application(lab: Lab) -> None:
    lab.use("tests.apps.stepped")


def test_a_step_with_a_timer_runs_while_the_worker_lives(lab: Lab) -> None:
    worker = lab.worker()
    assert lab.ledger.count("made", "Probe") == 1
    eventually(lambda: lab.ledger.count("touched", worker.node) >= 3)
    assert lab.run("add", 1, 2) == 3
    worker.stop()
    assert lab.ledger.count("stopped", "Probe") == 1
    assert lab.ledger.count("started", "Probe") == 1
    assert {pid for event, _, pid in lab.ledger.lines() if event == "touched"} == {lab.ledger.pid_of("made", "Probe")}
    if lab.engine == "fastq":  # no thread in the process that forks
        assert lab.ledger.count("threads-1", "Probe")


def test_steps_that_set_something_up(lab: Lab) -> None:
    lab.worker()
    assert lab.ledger.count("created", "celery") == 1


def test_the_worker_class_of_the_application_is_used(lab: Lab) -> None:
    lab.worker()
    assert lab.ledger.count("own", "worker") == 1


@pytest.mark.fastq_only("they run there")
def test_other_steps_are_named_and_not_run(lab: Lab) -> None:
    worker = lab.worker()
    assert worker.log_lines("NeedsPool.* is ignored")
    assert worker.log_lines("OfConsumer.* is ignored")
    assert not {"NeedsPool", "OfConsumer"} & set(lab.ledger.tokens("started"))
