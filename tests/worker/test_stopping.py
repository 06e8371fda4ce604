"""Signals to the main process: what is finished, what goes back, what the exit code says."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import Any

import pytest

from tests.eventually import eventually, steadily
from tests.fix_lab import Lab, stored
from tests.fix_redis import RedisServer
from tests.fix_worker import WorkerProcess

PREFETCHED = [f"next-{number}" for number in range(6)]


def busy(lab: Lab, name: str = "hold", *args: str, **options: Any) -> tuple[WorkerProcess, str]:
    """A worker with one task at its gate ("now") and others waiting behind it; the running task's id."""
    worker = lab.worker("--prefetch-multiplier", "4", *args, **options)
    running = lab.send(name, "now")
    eventually(lambda: lab.ledger.count("start", "now"))
    for token in PREFETCHED:
        lab.send("mark", token)
    return worker, running.id


def waiting(lab: Lab) -> list[str]:
    """The tokens on the queue, next first."""
    found = [re.search(rb"\('(next-\d+|now)',\)", entry) for entry in lab.db.entries()]
    return [match[1].decode() for match in found if match]


def test_an_idle_worker_stops_with_exit_code_0(lab: Lab) -> None:
    worker = lab.worker()
    assert worker.stop() == 0
    assert "Warm shutdown" in worker.log


def test_term_finishes_what_runs_and_returns_the_rest(lab: Lab) -> None:
    worker, running = busy(lab)
    worker.send(signal.SIGTERM)
    steadily(lambda: worker.alive, for_s=0.5)
    lab.ledger.open_gate("now")
    assert worker.wait() == 0
    assert stored(lab, running)["result"] == "now"
    assert sorted(waiting(lab)) == PREFETCHED
    assert lab.ledger.tokens("ran") == []


@pytest.mark.fastq_only("a stock worker puts them back in reverse order")
def test_what_is_returned_keeps_its_order_and_its_place_in_front(lab: Lab) -> None:
    worker, _running = busy(lab)
    worker.send(signal.SIGTERM)
    steadily(lambda: worker.alive, for_s=0.5)
    lab.ledger.open_gate("now")
    worker.wait()
    assert waiting(lab) == PREFETCHED


@pytest.mark.fastq_only("a stock worker returns them only when the running task is done")
def test_what_is_not_started_goes_back_at_once(lab: Lab) -> None:
    worker, _running = busy(lab)
    worker.send(signal.SIGTERM)
    eventually(lambda: waiting(lab) == PREFETCHED, within_s=2)
    other = lab.worker()
    eventually(lambda: lab.ledger.tokens("ran") == PREFETCHED)
    assert worker.alive
    lab.ledger.open_gate("now")
    assert worker.wait() == 0
    assert other.alive


def test_int_is_a_warm_shutdown_too(lab: Lab) -> None:
    worker, running = busy(lab)
    worker.send(signal.SIGINT)
    worker.wait_log("Warm shutdown")
    lab.ledger.open_gate("now")
    assert worker.wait() == 1
    assert stored(lab, running)["result"] == "now"
    assert sorted(waiting(lab)) == PREFETCHED


def test_a_second_int_is_cold(lab: Lab) -> None:
    worker, running = busy(lab)
    worker.send(signal.SIGINT)
    worker.wait_log("Warm shutdown")
    worker.send(signal.SIGINT)
    worker.wait(within_s=15)
    assert lab.ledger.count("end", "now") == 0
    assert stored(lab, running).get("status") == "RETRY"
    assert sorted(waiting(lab)) == PREFETCHED


def test_quit_is_cold_and_an_early_acknowledged_task_is_left_as_retry(lab: Lab) -> None:
    worker, running = busy(lab)
    assert worker.stop(signal.SIGQUIT) == 0
    assert "Cold shutdown" in worker.log
    assert stored(lab, running)["status"] == "RETRY"
    assert lab.ledger.count("end", "now") == 0
    assert sorted(waiting(lab)) == PREFETCHED


def test_quit_returns_a_late_acknowledged_task(lab: Lab) -> None:
    worker, running = busy(lab, "hold_late")
    assert worker.stop(signal.SIGQUIT) == 0
    assert sorted(waiting(lab)) == [*PREFETCHED, "now"]
    assert stored(lab, running) == {}
    lab.ledger.open_gate("now")
    lab.worker()
    eventually(lambda: stored(lab, running).get("result") == "now")
    eventually(lambda: sorted(lab.ledger.tokens("ran")) == PREFETCHED)


@pytest.mark.fastq_only("an option of fastq's")
@pytest.mark.parametrize("kind", ["hold", "hold_late"])
def test_a_warm_shutdown_has_a_limit_if_one_is_given(lab: Lab, kind: str) -> None:
    worker, running = busy(lab, kind, "--shutdown-timeout", "1")
    began = time.monotonic()
    assert worker.stop() == 0
    assert 1.0 <= time.monotonic() - began < 8
    assert "Ending what still runs 1 s after the stop (--shutdown-timeout)" in worker.log
    late = kind == "hold_late"
    assert sorted(waiting(lab)) == [*PREFETCHED, *(["now"] if late else [])]
    assert stored(lab, running).get("status") == (None if late else "RETRY")
    assert lab.ledger.count("end", "now") == 0


def test_remap_sigterm(lab: Lab) -> None:
    worker, running = busy(lab, env={"REMAP_SIGTERM": "SIGQUIT"})
    assert worker.stop(signal.SIGTERM) == 0
    assert "Cold shutdown" in worker.log
    assert stored(lab, running)["status"] == "RETRY"


def test_a_soft_shutdown_waits_for_its_timeout_and_no_longer(lab: Lab) -> None:
    lab.use(worker_soft_shutdown_timeout=1.5)
    worker, running = busy(lab, "hold_late")
    started = time.monotonic()
    worker.stop(signal.SIGQUIT)
    assert 1.3 < time.monotonic() - started < 8
    assert sorted(waiting(lab)) == [*PREFETCHED, "now"]
    assert stored(lab, running) == {}


def test_a_task_that_ends_within_the_soft_shutdown_is_finished(lab: Lab) -> None:
    lab.use(worker_soft_shutdown_timeout=6)
    worker, running = busy(lab)
    worker.send(signal.SIGQUIT)
    worker.wait_log("(?i)soft shutdown")
    lab.ledger.open_gate("now")
    worker.wait()
    assert stored(lab, running)["result"] == "now"


def test_hup_starts_it_again_with_the_same_arguments(lab: Lab) -> None:
    worker = lab.worker()
    pid = worker.pid
    before = worker.children
    worker.send(signal.SIGHUP)
    eventually(lambda: worker.log.count(f"{worker.node} ready.") == 2, within_s=20)
    assert worker.pid == pid
    assert worker.alive
    assert lab.run("add", 1, 2) == 3
    assert not set(before) & set(worker.children)


def test_messages_that_wait_for_their_time_go_back_too(lab: Lab) -> None:
    worker = lab.worker()
    for number in range(5):
        lab.task("mark").apply_async((f"next-{number}",), countdown=3600)
    eventually(lambda: lab.db.length() == 0)
    assert worker.stop() == 0
    assert lab.db.length() == 5


def test_a_returned_message_runs_elsewhere(lab: Lab) -> None:
    worker, _running = busy(lab)
    worker.send(signal.SIGTERM)
    lab.ledger.open_gate("now")
    worker.wait()
    lab.worker()
    eventually(lambda: sorted(lab.ledger.tokens("ran")) == PREFETCHED)


def test_children_ignore_an_int_from_the_keyboard(lab: Lab) -> None:
    """The terminal signals the whole group; the running task must not notice."""
    worker, running = busy(lab)
    os.killpg(worker.pid, signal.SIGINT)
    worker.wait_log("Warm shutdown")
    lab.ledger.open_gate("now")
    worker.wait()
    assert stored(lab, running)["result"] == "now"


@pytest.mark.fastq_only("a stock worker says nothing of the kind")
def test_the_exit_says_what_was_finished_returned_and_abandoned(lab: Lab) -> None:
    worker, _running = busy(lab)
    eventually(lambda: len(waiting(lab)) == len(PREFETCHED) - 4)
    worker.send(signal.SIGTERM)
    eventually(lambda: waiting(lab) == PREFETCHED)
    lab.ledger.open_gate("now")
    worker.wait()
    last = "\n".join(worker.log.strip().splitlines()[-5:])
    assert re.search(r"(?i)1 finished.*4 returned.*0 abandoned", last), last


@pytest.mark.fastq_only("nothing restores a stock worker's messages in time")
def test_a_stop_while_redis_is_away_ends_all_the_same(lab: Lab, aof_server: RedisServer) -> None:
    lab.use(broker=aof_server.url())
    worker = lab.worker()
    aof_server.stop()
    worker.send(signal.SIGTERM)
    worker.wait(within_s=20)
    worker.killed = True
    lab.workers.clear()
    worker.finish()


def test_a_pidfile_is_written_and_removed(lab: Lab) -> None:
    path = lab.folder / "worker.pid"
    worker = lab.worker("--pidfile", str(path))
    assert int(path.read_text()) == worker.pid
    worker.stop()
    assert not path.exists()


def test_the_logfile_is_where_it_was_asked_for(lab: Lab) -> None:
    path = lab.folder / "worker-log.txt"
    worker = lab.worker("-f", str(path), ready=False)
    eventually(lambda: path.exists() and f"{worker.node} ready." in path.read_text(), within_s=20)
    assert lab.run("add", 1, 1) == 2
    eventually(lambda: "succeeded in" in path.read_text())
