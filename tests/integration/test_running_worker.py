"""Limits and the number of children are changed while a worker runs; what was revoked outlives it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fastq.compat.celery.statedb import read
from tests.control import ask
from tests.eventually import eventually, steadily
from tests.fix_lab import RESULT_S, Lab, stored, wait_state


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """One worker with two children for the module."""
    module_lab.worker(concurrency=2)
    return module_lab


# ---------------------------------------------------------------------------- limits


def test_a_rate_limit_is_set_and_lifted(lab: Lab) -> None:
    assert ask(lab, "rate_limit", "t.mark", "10/s") == {"ok": "new rate limit set successfully"}
    began = time.monotonic()
    for result in [lab.send("mark", f"limited-{n}") for n in range(6)]:
        result.get(timeout=RESULT_S)
    assert time.monotonic() - began >= 0.45
    assert ask(lab, "rate_limit", "t.mark", 0) == {"ok": "rate limit disabled successfully"}


@pytest.mark.fastq_only("a stock worker lets what waits under the old limit wait on")
def test_what_waits_for_its_turn_runs_when_the_limit_is_lifted(lab: Lab) -> None:
    ask(lab, "rate_limit", "t.mark", "1/h")
    sent = [lab.send("mark", f"lifted-{n}") for n in range(4)]
    assert sent[0].get(timeout=RESULT_S) == "lifted-0"
    steadily(lambda: lab.ledger.count("ran", "lifted-1") == 0, for_s=0.2)
    ask(lab, "rate_limit", "t.mark", "")
    assert [result.get(timeout=RESULT_S) for result in sent[1:]] == ["lifted-1", "lifted-2", "lifted-3"]


@pytest.mark.fastq_only("a stock worker has handed them to its pool")
def test_a_new_limit_holds_for_what_has_been_dealt(lab: Lab) -> None:
    for token in ("block-1", "block-2"):
        lab.send("hold", token)
        eventually(lambda token=token: lab.ledger.count("start", token) == 1)  # type: ignore[misc]
    sent = [lab.send("mark", f"dealt-{n}") for n in range(4)]
    eventually(lambda: not lab.db.length("celery"))
    ask(lab, "rate_limit", "t.mark", "1/h")
    lab.ledger.open_gate("block-1")
    lab.ledger.open_gate("block-2")
    assert sent[0].get(timeout=RESULT_S) == "dealt-0"
    steadily(lambda: lab.ledger.count("ran", "dealt-1") == 0, for_s=0.2)
    ask(lab, "rate_limit", "t.mark", 0)
    assert [result.get(timeout=RESULT_S) for result in sent] == [f"dealt-{n}" for n in range(4)]


def test_rates_and_names_that_are_none(lab: Lab) -> None:
    assert ask(lab, "rate_limit", "t.nothing", "1/s") == {"error": "unknown task"}
    words = "Invalid rate limit string: ValueError(\"could not convert string to float: 'often'\")"
    assert ask(lab, "rate_limit", "t.mark", "often") == {"error": words}
    assert ask(lab, "time_limit", "t.nothing", soft=1, hard=2) == {"error": "unknown task"}


@pytest.mark.fastq_only("a stock worker notes it, and lets tasks run on as before")
def test_a_time_limit_is_set_and_lifted(lab: Lab) -> None:
    assert ask(lab, "time_limit", "t.nap", hard=0.3) == {"ok": "time limits set successfully"}
    record = wait_state(lab, lab.send("nap", "over", 30).id, "FAILURE")
    assert record["result"]["exc_type"] == "TimeLimitExceeded"
    ask(lab, "time_limit", "t.nap")
    assert lab.run("nap", "not-over", 0.4) == "not-over"


# ---------------------------------------------------------------------------- children


def children(lab: Lab) -> list[int]:
    return lab.workers[0].children


def test_grow_and_shrink(lab: Lab) -> None:
    assert ask(lab, "pool_grow", 2) == {"ok": "pool will grow"}
    eventually(lambda: len(children(lab)) == 4)
    tokens = [f"grown-{n}" for n in range(4)]
    sent = [lab.send("hold", token) for token in tokens]
    eventually(lambda: all(lab.ledger.count("start", token) for token in tokens))
    for token in tokens:
        lab.ledger.open_gate(token)
    assert [result.get(timeout=RESULT_S) for result in sent]
    assert ask(lab, "pool_shrink", 2) == {"ok": "pool will shrink"}
    eventually(lambda: len(children(lab)) == 2)
    assert lab.run("add", 1, 1) == 2


@pytest.mark.fastq_only("a stock worker refuses to shrink below the number of busy processes")
def test_a_busy_child_leaves_after_its_task(lab: Lab) -> None:
    ask(lab, "pool_grow", 1)
    eventually(lambda: len(children(lab)) == 3)
    tokens = ["busy-1", "busy-2", "busy-3"]
    sent = [lab.send("hold", token) for token in tokens]
    eventually(lambda: all(lab.ledger.count("start", token) for token in tokens))
    ask(lab, "pool_shrink", 1)
    steadily(lambda: len(children(lab)) == 3, for_s=0.2)
    for token in tokens:
        lab.ledger.open_gate(token)
    assert [result.get(timeout=RESULT_S) for result in sent]
    eventually(lambda: len(children(lab)) == 2)


@pytest.mark.fastq_only("a stock worker may be left without processes")
def test_one_child_stays(lab: Lab) -> None:
    assert "one has to stay" in ask(lab, "pool_shrink", 2)["error"]
    assert len(children(lab)) == 2


def test_restarts_have_to_be_allowed(lab: Lab) -> None:
    assert ask(lab, "pool_restart") == {"error": "ValueError('Pool restarts not enabled')"}


class TestOwnWorker:
    """What ends a worker, or needs settings of its own."""

    @pytest.fixture
    def lab(self, other_lab: Lab) -> Lab:
        return other_lab

    @pytest.mark.fastq_only("a stock worker kills what runs")
    def test_pool_restart(self, lab: Lab) -> None:
        lab.use(worker_pool_restarts=True)
        worker = lab.worker(concurrency=2)
        before = set(worker.children)
        sent = lab.send("hold", "through")
        eventually(lambda: lab.ledger.count("start", "through") == 1)
        assert ask(lab, "pool_restart") == {"ok": "reload started"}
        eventually(lambda: len(before & set(worker.children)) == 1 and len(worker.children) >= 2)
        lab.ledger.open_gate("through")
        assert sent.get(timeout=RESULT_S)
        eventually(lambda: len(worker.children) == 2 and not before & set(worker.children))
        assert lab.run("add", 1, 1) == 2

    def test_shutdown_is_warm(self, lab: Lab) -> None:
        worker = lab.worker()
        sent = lab.send("hold", "last")
        eventually(lambda: lab.ledger.count("start", "last") == 1)
        lab.app.control.shutdown()
        worker.wait_log("Got shutdown from remote")
        lab.ledger.open_gate("last")
        assert worker.wait() == 0
        assert stored(lab, sent.id)["status"] == "SUCCESS"

    @pytest.mark.parametrize("second", ["fastq", "celery"])
    def test_revoked_ids_outlive_the_worker(self, lab: Lab, second: str, tmp_path: Path) -> None:
        """Whichever engine wrote them, whichever reads them."""
        database = tmp_path / "revoked-%n"
        first = lab.worker("--statedb", str(database))
        ask(lab, "revoke", ["kept-1", "kept-2"])
        assert first.stop() == 0
        lab.worker("--statedb", str(database), engine=second, name="w1")
        sent = lab.send("mark", "kept", task_id="kept-2")
        wait_state(lab, sent.id, "REVOKED")
        lab.run("mark", "not-revoked")
        assert lab.ledger.count("ran", "kept") == 0

    @pytest.mark.fastq_only("a stock worker writes them when it stops")
    def test_revoked_ids_outlive_a_killed_worker(self, lab: Lab, tmp_path: Path) -> None:
        database = tmp_path / "revoked"
        first = lab.worker("--statedb", str(database))
        ask(lab, "revoke", "killed-1")
        eventually(lambda: read(str(database)) == ["killed-1"])
        first.kill()
        lab.worker("--statedb", str(database))
        sent = lab.send("mark", "killed", task_id="killed-1")
        wait_state(lab, sent.id, "REVOKED")

    @pytest.mark.fastq_only("a stock worker does not start")
    def test_an_unreadable_state_database(self, lab: Lab, tmp_path: Path) -> None:
        database = tmp_path / "broken"
        database.write_bytes(b"this is no database")
        worker = lab.worker("--statedb", str(database))
        assert worker.log_lines("Revoked tasks of earlier runs are not known")
        assert lab.run("add", 1, 2) == 3
