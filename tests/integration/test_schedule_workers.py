"""The schedule of a native application, run by its workers: one of them sends, whoever is killed or paused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastq.app.leader import firing_id
from tests.eventually import eventually
from tests.fix_redis import Database
from tests.fix_worker import QUIET, ROOT, WorkerProcess

MODULE = "tests.apps.native_schedule"
ENTRIES = "fastq:schedule:{scheduled}:entries"


class Fleet:
    """Workers of one application with a schedule, and what they have sent."""

    def __init__(self, db: Database, folder: Path) -> None:
        self.db, self.folder = db, folder
        self.workers: list[WorkerProcess] = []
        self.beats: list[subprocess.Popen[bytes]] = []

    def worker(self, *args: str, wire: str = "celery") -> WorkerProcess:
        made = WorkerProcess(
            engine="fastq",
            folder=self.folder,
            broker=self.db.url,
            app=MODULE,
            args=args,
            env={"FASTQ_TEST_WIRE": wire},
            name=f"w{len(self.workers) + 1}",
            quiet=QUIET,
        )
        self.workers.append(made)
        return made.start()

    def beat(self) -> subprocess.Popen[bytes]:
        """`fastq beat`, apart from any worker."""
        with (self.folder / "beat.log").open("ab") as log:
            command = [sys.executable, "-m", "fastq", "-A", MODULE, "beat"]
            made = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=self.environment)
        self.beats.append(made)
        return made

    @property
    def environment(self) -> dict[str, str]:
        model = WorkerProcess(engine="fastq", folder=self.folder, broker=self.db.url, app=MODULE)
        return model.env

    def leader(self) -> int:
        """The process that sends now; 0: none."""
        holder: Any = self.db.client.get("fastq:schedule:{scheduled}")
        return int(holder.decode().rpartition(":")[2]) if holder else 0

    def ran(self, what: str = "all") -> list[str]:
        """The ids of the tasks that were run, in order."""
        path = self.folder / "ledger.txt"
        tokens = [line.split()[1] for line in path.read_text().splitlines()] if path.exists() else []
        return [token.partition(":")[2] for token in tokens if token.startswith(f"{what}:")]

    def tick(self) -> int:
        """The due time of the entry that was sent last, in milliseconds."""
        known: Any = self.db.client.hget(ENTRIES, "tick")
        return int(known.split()[0])

    def assert_all_ran_once(self, *, since_ms: int) -> None:
        """Each due time of `tick` from then on is one task, and none is missing."""
        until_ms = self.tick()
        wanted = [firing_id("scheduled", "tick", due) for due in range(since_ms, until_ms + 1, 200)]
        eventually(lambda: set(wanted) <= set(self.ran()))
        ran = self.ran()
        assert len(ran) == len(set(ran))

    def close(self) -> None:
        for beat in self.beats:
            if beat.poll() is None:
                beat.terminate()
            beat.wait(10)
        for worker in self.workers:
            worker.finish()


@pytest.fixture
def fleet(db: Database, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(db, tmp_path)
    yield made
    made.close()


def test_a_worker_runs_the_schedule_of_its_application(fleet: Fleet) -> None:
    worker = fleet.worker()
    eventually(lambda: len(fleet.ran()) >= 3 and len(fleet.ran("setting")) >= 1)
    fleet.assert_all_ran_once(since_ms=fleet.tick())
    worker.wait_log(r"INFO.*Scheduler: Sending due task tick \(t.note\) id=.* late=")
    worker.wait_log("Scheduler: this process leads scheduled")
    command = [sys.executable, "-m", "fastq", "-A", MODULE, "schedule"]
    asked = subprocess.run([*command, "--json"], cwd=ROOT, env=fleet.environment, capture_output=True, check=True)
    shown = json.loads(asked.stdout)
    assert shown["leader"].endswith(f"w1@tests:{fleet.leader()}")
    assert [entry["name"] for entry in shown["entries"]] == ["of a setting", "tick", "yearly"]
    assert shown["entries"][1]["last_ms"] <= shown["now_ms"] < shown["entries"][2]["next_ms"]
    table = subprocess.run(command, cwd=ROOT, env=fleet.environment, capture_output=True, check=True, text=True).stdout
    assert "cron 0 0 1 1 * Europe/Berlin" in table
    worker.stop()
    assert fleet.leader() == 0
    assert not worker.log_lines("Traceback|ERROR")


def test_a_leader_that_is_paused_or_killed_is_succeeded_and_nothing_is_sent_twice(fleet: Fleet) -> None:
    first, second = fleet.worker(), fleet.worker()
    paused = eventually(fleet.leader)
    eventually(lambda: len(fleet.ran()) >= 2)
    since_ms = fleet.tick()
    os.kill(paused, signal.SIGSTOP)
    eventually(lambda: fleet.leader() not in (0, paused), within_s=7)
    killed = fleet.leader()
    os.kill(paused, signal.SIGCONT)
    said = rf"leads scheduled \(term 2 .*:{killed}\)"  # when it leads already
    [owner] = eventually(lambda: [worker for worker in (first, second) if worker.log_lines(said)])
    other = second if owner is first else first
    other.wait_log("the lead of scheduled is lost")
    owner.kill()
    eventually(lambda: fleet.leader() == paused, within_s=7)
    after_ms = fleet.tick()
    eventually(lambda: fleet.tick() > after_ms + 400)
    fleet.assert_all_ran_once(since_ms=since_ms)


def test_beat_apart_and_a_worker_without_a_schedule(fleet: Fleet) -> None:
    worker = fleet.worker("--without-schedule")
    one, two = fleet.beat(), fleet.beat()
    leader = eventually(fleet.leader)
    assert leader in (one.pid, two.pid)
    eventually(lambda: len(fleet.ran()) >= 2)
    os.kill(leader, signal.SIGTERM)
    # In order: the lead is given back, and taken within a second.
    eventually(lambda: fleet.leader() not in (0, leader), within_s=3)
    fleet.assert_all_ran_once(since_ms=fleet.tick())
    assert (one if leader == one.pid else two).wait(10) == 0
    assert not worker.log_lines("Scheduler")


def test_a_reload_runs_the_new_schedule(fleet: Fleet) -> None:
    worker = fleet.worker(wire="fastq")
    before = eventually(fleet.leader)
    eventually(lambda: len(fleet.ran()) >= 2)
    since_ms = fleet.tick()
    (fleet.folder / "more").touch()
    worker.send(signal.SIGHUP)
    eventually(lambda: len(fleet.ran("more")) >= 2, within_s=20)
    assert fleet.leader() not in (0, before)
    fleet.assert_all_ran_once(since_ms=since_ms)
