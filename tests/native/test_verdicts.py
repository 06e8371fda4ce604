"""The end of a task whose child died is carried out by another child, also if that dies meanwhile."""

from __future__ import annotations

import signal

import pytest

from tests.apps import judged
from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab

pytestmark = pytest.mark.fastq_only


def test_a_verdict_outlives_the_children_that_carry_it_out(lab: Lab) -> None:
    lab.module = "tests.apps.judged"
    judged.app.conf.update(broker_url=lab.db.url, result_backend=lab.db.url)
    worker = lab.worker(concurrency=1)
    try:
        handle = judged.dies.delay(2)
        assert handle.wait(RESULT_S).status == "FAILURE"
        assert lab.ledger.count("told", handle.id) == 3
        endless = judged.dies.delay(99)
        eventually(lambda: "its message is dropped" in worker.log, within_s=20)
        assert lab.ledger.count("told", endless.id) == 5
    finally:
        judged.app.close()


def test_a_cold_stop_returns_a_late_message_whose_verdict_is_being_carried_out(lab: Lab) -> None:
    lab.module = "tests.apps.judged"
    judged.app.conf.update(broker_url=lab.db.url, result_backend=lab.db.url)
    worker = lab.worker(concurrency=1)
    try:
        handle = judged.dies_late.delay(-1)
        eventually(lambda: lab.ledger.count("told", handle.id) == 1)
        worker.send(signal.SIGQUIT)
        worker.wait()
        assert [handle.id.encode() in entry for entry in lab.db.entries()] == [True]
    finally:
        judged.app.close()
