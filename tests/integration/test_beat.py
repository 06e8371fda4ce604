"""The application's schedule, run by `beat` beside the workers."""

from __future__ import annotations

import contextlib
import importlib.util
import shelve
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.eventually import eventually
from tests.fix_lab import Lab
from tests.fix_worker import WorkerProcess

TICK = {"task": "t.mark", "schedule": 0.3, "args": ["tick"]}


class Beat:
    """`celery beat` or `fastq beat` on the lab's application."""

    def __init__(self, lab: Lab, *args: str, program: str = "", env: dict[str, str] | None = None) -> None:
        model = WorkerProcess(engine=lab.engine, folder=lab.folder, **lab._defaults())
        self.log_path = lab.folder / "beat.log"
        words = ["-A", lab.module, "beat", "-l", "DEBUG", *args]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", program or lab.engine, *words],
                stdout=log,
                stderr=log,
                cwd=lab.folder,
                env={**model.env, **(env or {})},
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(15)


@contextlib.contextmanager
def beat(lab: Lab, *args: str, **options: Any) -> Iterator[Beat]:
    """A running beat, stopped at the end."""
    running = Beat(lab, *args, **options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()


def ticks(lab: Lab) -> int:
    return lab.ledger.count("ran", "tick")


@pytest.mark.parametrize("program", ["celery", "fastq"])
def test_beat_drives_a_worker(lab: Lab, program: str) -> None:
    lab.use(beat_schedule={"tick": TICK})
    lab.worker()
    with beat(lab, "-s", "times", "--max-interval", "1", program=program) as running:
        eventually(lambda: ticks(lab) >= 3)
        assert running.stop() == 0
    assert not [line for line in running.log.splitlines() if "ERROR" in line or "Traceback" in line]
    with shelve.open(str(lab.folder / "times")) as times:
        assert times["entries"]["tick"].total_run_count >= 3


@pytest.mark.fastq_only("about its command line")
def test_options_and_variables_of_beat_are_celerys(lab: Lab) -> None:
    lab.use(beat_schedule={"tick": TICK})
    pidfile = lab.folder / "beat.pid"
    env = {"CELERY_BEAT_SCHEDULE": "of_the_environment", "FASTQ_APP": lab.module}
    with beat(lab, "--pidfile", str(pidfile), "-f", "beat2.log", env=env) as running:
        log = lab.folder / "beat2.log"
        eventually(lambda: log.exists() and "Sending due task" in log.read_text())
        assert int(pidfile.read_text()) == running.process.pid
    assert list(lab.folder.glob("of_the_environment*"))
    assert not pidfile.exists()


@pytest.mark.fastq_only("about its command line")
def test_an_application_that_is_not_there_is_one_line(lab: Lab) -> None:
    lab.use("tests.apps.empty")
    with beat(lab) as running:
        assert running.process.wait(15) == 2
    assert "tests.apps.empty" in running.log.splitlines()[-1]
    assert "Traceback" not in running.log


# ---------------------------------------------------------------------------- scheduler classes of others


@pytest.mark.skipif(not importlib.util.find_spec("redbeat"), reason="celery-redbeat is not installed")
def test_redbeat_keeps_its_schedule_in_redis(lab: Lab) -> None:
    lab.use(beat_schedule={"tick": {**TICK, "schedule": 1}}, redbeat_redis_url=lab.db.url, beat_max_loop_interval=1)
    lab.worker()
    with beat(lab, "-S", "redbeat.RedBeatScheduler"):
        eventually(lambda: ticks(lab) >= 2, within_s=20)
    assert lab.db.client.exists("redbeat:tick")
