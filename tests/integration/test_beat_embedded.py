"""The schedule inside a worker, with -B: a process beside its children."""

from __future__ import annotations

import importlib.util
import os
import shelve
import signal

import psutil
import pytest

from tests.eventually import eventually, steadily
from tests.fix_lab import Lab
from tests.integration.test_beat import TICK, ticks


@pytest.fixture(autouse=True)
def application(lab: Lab) -> None:
    lab.use("tests.apps.scheduled", beat_schedule={"tick": TICK})


def beats(lab: Lab) -> list[int]:
    """The processes that run the schedule, of those that live."""
    return [pid for event, _, pid in lab.ledger.lines() if event == "beat" and psutil.pid_exists(pid)]


def test_a_worker_has_its_own_beat(lab: Lab) -> None:
    worker = lab.worker("-B", "-s", f"{lab.folder}/times")
    eventually(lambda: ticks(lab) >= 2)
    (pid,) = eventually(lambda: beats(lab))
    assert pid not in {worker.pid, *([worker.nursery] if lab.engine == "celery" else [])}
    worker.stop()
    worker.wait_log("beat: Shutting down")
    with shelve.open(str(lab.folder / "times")) as times:
        assert times["entries"]["tick"].total_run_count >= 2


@pytest.mark.fastq_only("a stock worker goes on without a schedule")
def test_a_beat_that_dies_is_replaced(lab: Lab) -> None:
    worker = lab.worker("-B", "-s", f"{lab.folder}/times")
    (pid,) = eventually(lambda: beats(lab))
    os.kill(pid, signal.SIGKILL)
    before = ticks(lab)
    eventually(lambda: ticks(lab) > before + 1, within_s=20)
    worker.wait_log("beat.*again")
    assert pid not in beats(lab)


def test_a_warm_stop_ends_the_beat_first(lab: Lab) -> None:
    worker = lab.worker("-B", "-s", f"{lab.folder}/times", concurrency=2)
    eventually(lambda: ticks(lab) >= 1)
    lab.send("hold", "held")
    eventually(lambda: lab.ledger.count("start", "held"))
    worker.send(signal.SIGTERM)
    if lab.engine == "fastq":  # a stock worker stops its beat when its tasks have ended
        eventually(lambda: not beats(lab))
        lab.db.client.delete("celery")
        steadily(lambda: lab.db.length("celery") == 0, for_s=0.6)
    lab.ledger.open_gate("held")
    worker.wait()


@pytest.mark.fastq_only("about its processes")
def test_the_beat_dies_with_the_main_process(lab: Lab) -> None:
    worker = lab.worker("-B", "-s", f"{lab.folder}/times")
    (pid,) = eventually(lambda: beats(lab))
    worker.kill()
    eventually(lambda: not psutil.pid_exists(pid))


@pytest.mark.fastq_only("Celery looks the file's name up before it reads the settings at the end of the line")
def test_settings_on_the_command_line_hold_for_beat(lab: Lab) -> None:
    lab.use(beat_schedule_filename="/nowhere/at/all")
    lab.worker("-B", "beat.schedule_filename=" + str(lab.folder / "times"))
    eventually(lambda: ticks(lab) >= 1)
    assert list(lab.folder.glob("times*"))


@pytest.mark.skipif(not importlib.util.find_spec("redbeat"), reason="celery-redbeat is not installed")
def test_the_class_of_the_scheduler_can_be_chosen(lab: Lab) -> None:
    lab.use(beat_schedule={"tick": {**TICK, "schedule": 1}}, redbeat_redis_url=lab.db.url, beat_max_loop_interval=1)
    lab.worker("-B", "--scheduler", "redbeat.RedBeatScheduler")
    eventually(lambda: ticks(lab) >= 2, within_s=20)
    assert lab.db.client.exists("redbeat:tick")


@pytest.mark.fastq_only("a stock worker's beat ends with tracebacks")
def test_a_schedule_file_that_cannot_be_written_is_one_error_and_tasks_run_on(lab: Lab) -> None:
    worker = lab.worker("-B", "-s", "/nowhere/at/all/times")
    (line,) = worker.wait_log("/nowhere/at/all")
    assert "CRITICAL" in line
    worker.wait_log("The schedule is not run by this worker")
    assert lab.run("add", 2, 2) == 4
    steadily(lambda: len(worker.log_lines("/nowhere/at/all")) == 1, for_s=1.5)
    assert not worker.log_lines("Traceback|started again")
