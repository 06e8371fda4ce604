"""Signals to all processes of a worker at once, from service managers and terminals: the main process decides."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from fastq.monitor.local import local_workers
from fastq.monitor.snapshot import take
from tests.apps import native, native_loops
from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab, stored
from tests.fix_worker import WorkerProcess
from tests.integration.test_beat import TICK, ticks

pytestmark = pytest.mark.fastq_only("Celery's children end by such a signal, and their tasks with them")

#: What is logged of a process that ended and should not have, and of a task that was lost with it.
BAD = r"ERROR|CRITICAL|Traceback|again"


def to_all(worker: WorkerProcess, number: signal.Signals) -> None:
    """Signal the whole process group, which is that of the main process."""
    worker.look()
    os.killpg(worker.pid, number)


def busy(lab: Lab, *args: str) -> tuple[WorkerProcess, Any, Any]:
    """A worker with an early and a late acknowledged task that wait at their gates, and an idle child."""
    worker = lab.worker(*args, concurrency=3)
    sent = lab.send("hold", "early"), lab.send("hold_late", "late")
    eventually(lambda: lab.ledger.count("start", "early") and lab.ledger.count("start", "late"))
    return worker, *sent


def in_flight(worker: WorkerProcess) -> int:
    """Tasks that coroutine children have at once."""
    [seen] = [each for each in local_workers(worker.node) if each.pid == worker.pid]
    return sum(child.in_flight for child in take(seen).children)


def open_gates(lab: Lab) -> None:
    for token in ("early", "late"):
        lab.ledger.open_gate(token)


def assert_ended_once(lab: Lab, *sent: Any) -> None:
    lines = sorted((event, token) for event, token, _pid in lab.ledger.lines() if event in ("start", "end"))
    assert lines == [("end", "early"), ("end", "late"), ("start", "early"), ("start", "late")]
    assert [stored(lab, each.id).get("status") for each in sent] == ["SUCCESS", "SUCCESS"]


def has_ended_once(lab: Lab, *sent: Any) -> bool:
    assert_ended_once(lab, *sent)
    return True


@pytest.mark.parametrize(
    ("number", "args", "code"),
    [(signal.SIGTERM, (), 0), (signal.SIGTERM, ("--autoscale", "4,3"), 0), (signal.SIGINT, (), 1)],
)
def test_term_and_int_to_all_are_warm_stops(lab: Lab, number: signal.Signals, args: tuple[str, ...], code: int) -> None:
    worker, early, late = busy(lab, *args)
    to_all(worker, number)
    worker.wait_log("Warm shutdown")
    if number == signal.SIGTERM:  # a second INT is a cold stop
        to_all(worker, number)
    open_gates(lab)
    assert worker.wait() == code
    assert_ended_once(lab, early, late)
    assert not worker.log_lines(BAD), worker.log


def test_quit_to_all_is_a_cold_stop(lab: Lab) -> None:
    worker, early, late = busy(lab)
    to_all(worker, signal.SIGQUIT)
    assert worker.wait() == 0
    assert stored(lab, early.id)["status"] == "RETRY"
    assert (stored(lab, late.id), lab.db.length()) == ({}, 1)
    assert not worker.log_lines(BAD), worker.log


def test_hup_to_all_is_a_reload(lab: Lab) -> None:
    worker, early, late = busy(lab)
    to_all(worker, signal.SIGHUP)
    worker.wait_log("The application is loaded")
    open_gates(lab)
    worker.wait_log("Reloaded", within_s=20)
    eventually(lambda: has_ended_once(lab, early, late))
    assert worker.stop() == 0
    assert not worker.log_lines(r"ERROR|CRITICAL|Traceback"), worker.log


def test_usr1_to_all_shows_the_stacks_and_ends_nobody(lab: Lab) -> None:
    worker, early, late = busy(lab)
    to_all(worker, signal.SIGUSR1)
    worker.wait_log("Current thread")
    open_gates(lab)
    eventually(lambda: has_ended_once(lab, early, late))
    assert worker.stop() == 0
    assert not worker.log_lines(r"ERROR|CRITICAL|Traceback"), worker.log


def test_a_worker_that_is_being_started_stops_in_order(lab: Lab) -> None:
    worker = lab.worker(ready=False)
    # As soon as the process that will load the application is there: it is not even Python yet.
    eventually(lambda: psutil.Process(worker.pid).children())
    to_all(worker, signal.SIGTERM)
    assert worker.wait() == 0
    assert not worker.log_lines(BAD), worker.log


def test_beat_ends_with_the_others_and_its_schedule_is_saved(lab: Lab) -> None:
    lab.use("tests.apps.scheduled", beat_schedule={"tick": TICK})
    worker, early, late = busy(lab, "-B", "-s", f"{lab.folder}/times")
    eventually(lambda: ticks(lab))
    to_all(worker, signal.SIGTERM)
    eventually(lambda: not [pid for event, _, pid in lab.ledger.lines() if event == "beat" and psutil.pid_exists(pid)])
    open_gates(lab)
    assert worker.wait() == 0
    assert_ended_once(lab, early, late)
    assert not worker.log_lines(BAD), worker.log


def test_functions_of_a_native_application_end_as_well(lab: Lab) -> None:
    lab.use("tests.apps.native")
    native.app.conf.broker_url = native.app.conf.result_backend = lab.db.url
    worker = lab.worker(concurrency=2)
    held = native.hold.delay("h")
    eventually(lambda: lab.ledger.count("start", "h"))
    to_all(worker, signal.SIGTERM)
    worker.wait_log("Warm shutdown")
    lab.ledger.open_gate("h")
    assert worker.wait() == 0
    assert held.get(RESULT_S) == "h"
    assert not worker.log_lines(BAD), worker.log
    native.app.close()


@pytest.fixture
def loops(lab: Lab) -> Iterator[Lab]:
    """A lab with a native application of coroutine tasks, which this process sends to."""
    lab.use("tests.apps.native_loops")
    native_loops.app.conf.broker_url = native_loops.app.conf.result_backend = lab.db.url
    yield lab
    native_loops.app.close()


def test_coroutines_and_functions_of_a_native_application_end_as_well(loops: Lab) -> None:
    worker = loops.worker(concurrency=2)
    tokens = ["one", "two", "three"]
    naps = [native_loops.nap.delay(token, 0.8) for token in tokens]
    function = native_loops.function.delay("f", 0.8)
    eventually(lambda: sorted(loops.ledger.tokens("start")) == sorted(tokens))
    eventually(lambda: in_flight(worker) == 4)
    to_all(worker, signal.SIGTERM)
    assert worker.wait() == 0
    assert [handle.get(RESULT_S) for handle in naps] == tokens
    assert function.get(RESULT_S)[0] == "f"
    assert sorted(loops.ledger.tokens("end")) == sorted(tokens)
    assert not worker.log_lines(BAD), worker.log


def test_a_signal_to_one_child_ends_that_child(lab: Lab) -> None:
    worker = lab.worker()
    child = lab.run("pid")  # before it is ready, it does not listen
    os.kill(child, signal.SIGTERM)
    worker.wait_log(rf"ERROR.*pid:{child} exited with code 15")
    assert lab.run("add", 1, 2) == 3


def test_programs_that_tasks_start_can_be_ended_by_term(lab: Lab) -> None:
    lab.worker()
    masks = {name: int(mask, 16) for name, mask in lab.run("handed_on").items()}
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        assert not masks["SigIgn"] & 1 << number - 1
    assert masks["SigBlk"] == 0
