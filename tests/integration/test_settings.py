"""Settings have their effect under their old names, and in the log of the main process."""

from __future__ import annotations

import re

from tests.fix_lab import Lab, wait_state


def test_old_names_of_settings(lab: Lab) -> None:
    lab.use("tests.apps.oldstyle")
    worker = lab.worker()
    assert lab.run("add", 1, 2) == 3
    sent = lab.send("started", "gate")
    wait_state(lab, sent.id, "STARTED")
    lab.ledger.open_gate("gate")
    assert sent.get(timeout=10) == "ok"
    assert worker.log_lines(r"^old INFO w1@tests ready\.")
    assert worker.log_lines(r"old +exchange=old")
    if lab.engine == "fastq":
        assert worker.log_lines("worker_prefetch_multiplier 7")


def test_the_date_of_log_lines(lab: Lab) -> None:
    lab.use(worker_log_datefmt="on %d.%m.", worker_log_color=False)
    worker = lab.worker()
    assert re.match(r"\[on \d\d\.\d\d\.: INFO/MainProcess\]", worker.log_lines("ready\\.")[0])
