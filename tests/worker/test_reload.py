"""HUP: new code under a running worker, with no message lost and no moment without children."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from fastq.monitor.local import local_workers
from fastq.monitor.snapshot import tasks
from tests.eventually import eventually
from tests.fix_lab import Lab, close_app
from tests.fix_worker import ROOT, WorkerProcess

pytestmark = pytest.mark.fastq_only("a stock worker starts again as a whole")

RELOADED = "Reloaded: "


class Site:
    """An application in a folder, its worker and a client that knows its tasks by name only."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.client: Any = Celery("site", broker=lab.broker, backend=lab.backend, set_as_current=False)
        self.worker: WorkerProcess

    def code(self, version: int, *tasks: str, **more: Any) -> None:
        """Write this version."""
        text = json.dumps({"version": version, "tasks": ["version", "hold", *tasks], **more})
        (self.lab.folder / "code.json").write_text(text)

    def start(self, *args: str, **options: Any) -> None:
        self.lab.module = "tests.apps.changing"
        # A name of its own: `fastq reload` looks for it among all workers of this host.
        own = {"concurrency": 2, "name": f"site{os.getpid()}"}
        self.worker = self.lab.worker(*args, **{**own, **options})

    def send(self, name: str, *args: Any, **options: Any) -> Any:
        return self.client.send_task(name, args, **options)

    def run(self, name: str = "version", *args: Any) -> Any:
        return self.send(name, *args).get(timeout=20)

    def reload(self) -> None:
        """HUP, and wait until it is done."""
        before = self.worker.log.count(RELOADED)
        self.worker.send(signal.SIGHUP)
        eventually(lambda: self.worker.log.count(RELOADED) == before + 1, within_s=20, saying=self.worker.log[-2000:])


@pytest.fixture
def site(lab: Lab) -> Iterator[Site]:
    made = Site(lab)
    yield made
    close_app(made.client)


def test_tasks_that_come_with_a_reload_are_counted_by_name(site: Site) -> None:
    site.code(1)
    site.start()
    assert site.run() == 1
    site.code(2, "another")
    site.reload()
    assert (site.run("another"), site.run()) == (2, 2)
    [worker] = local_workers(site.worker.node)
    eventually(lambda: {runs.task: runs.executed for runs in tasks(worker.board)} == {"version": 2, "another": 1})


def test_tasks_are_run_by_the_new_code_in_the_same_worker(site: Site) -> None:
    site.code(1)
    site.start()
    pid, before = site.worker.pid, site.worker.children
    assert site.run() == 1
    site.code(2)
    site.reload()
    assert site.run() == 2
    assert site.worker.pid == pid
    eventually(lambda: not set(before) & set(site.worker.children))
    assert len(site.worker.children) == 2
    site.code(3)
    site.reload()
    assert site.run() == 3


def test_every_message_of_a_stream_is_run_once_while_the_code_changes(site: Site) -> None:
    site.code(1)
    site.start()
    sent: list[str] = []
    for version in (2, 3, 4):
        site.code(version)
        before = site.worker.log.count(RELOADED)
        site.worker.send(signal.SIGHUP)
        while site.worker.log.count(RELOADED) == before:
            sent.append(f"n{len(sent)}")
            site.send("version", sent[-1], ignore_result=True)
    eventually(lambda: sorted(site.lab.ledger.tokens("ran")) == sorted(sent), within_s=20)
    assert site.run() == 4


def test_a_task_that_runs_is_finished_by_the_code_that_began_it(site: Site) -> None:
    site.code(1)
    site.start()
    running = site.send("hold", "long")
    eventually(lambda: site.lab.ledger.count("start", "long"))
    site.code(2)
    site.reload()
    assert [site.run() for _ in range(4)] == [2] * 4, "the child that is busy gets nothing more"
    site.lab.ledger.open_gate("long")
    assert running.get(timeout=20) == 1


def test_a_version_that_cannot_be_imported_changes_nothing(site: Site) -> None:
    site.code(1)
    site.start()
    site.code(2, broken=True)
    site.worker.send(signal.SIGHUP)
    site.worker.wait_log("could not be loaded again; the worker goes on", within_s=20)
    assert "this version cannot be imported" in site.worker.log
    assert site.run() == 1
    site.code(3)
    site.reload()
    assert site.run() == 3


def test_tasks_come_and_go(site: Site) -> None:
    site.code(1, "early")
    site.start()
    assert site.run("early") == 1
    site.code(2, "late")
    site.reload()
    assert site.run("late") == 2
    with pytest.raises(Exception, match="early"):
        site.run("early")
    assert site.run("version") == 2


def test_a_new_task_that_is_sent_during_the_reload_waits_for_it(site: Site) -> None:
    site.code(1)
    site.start()
    site.code(2, "fresh")
    site.worker.send(signal.SIGHUP)
    site.worker.wait_log("Loading the application again")
    assert site.run("fresh") == 2


def test_other_limits(site: Site) -> None:
    site.code(1)
    site.start(concurrency=1)
    site.code(2, options={"time_limit": 0.5})
    site.reload()
    with pytest.raises(Exception, match="TimeLimitExceeded"):
        site.run("hold", "too-long")


def test_other_rates(site: Site) -> None:
    site.code(1, options={"rate_limit": "1/h"})
    site.start("--statedb", str(site.lab.folder / "state"))
    first, second = site.send("version"), site.send("version")
    assert first.get(timeout=20) == 1
    site.code(2, options={"rate_limit": "1/h"})
    site.reload()
    assert not second.ready()
    site.code(3)
    site.reload()
    assert second.get(timeout=20) == 3


def test_a_setting_of_the_engine_starts_the_worker_again(site: Site) -> None:
    site.code(1)
    site.start()
    pid = site.worker.pid
    site.code(2, settings={"timezone": "Europe/Berlin"})
    site.worker.send(signal.SIGHUP)
    site.worker.wait_log("Changed, and not to be changed in a running engine: timezone", within_s=20)
    eventually(lambda: site.worker.log.count(f"{site.worker.node} ready.") == 2, within_s=20)
    assert site.worker.pid == pid
    assert site.run() == 2


def test_a_second_hup_during_a_reload_is_not_forgotten(site: Site) -> None:
    site.code(1)
    site.start()
    site.code(2)
    site.worker.send(signal.SIGHUP)
    site.worker.wait_log("Loading the application again")
    site.code(3)
    site.worker.send(signal.SIGHUP)
    eventually(lambda: site.worker.log.count(RELOADED) == 2, within_s=20)
    assert site.run() == 3


def test_a_changed_file_is_noticed(site: Site) -> None:
    folder = site.lab.folder / "project"
    folder.mkdir()
    site.code(1)
    site.start("--workdir", str(folder), "--reload")
    site.code(2)
    (folder / "anything.py").write_text("# saved\n")
    site.worker.wait_log("Changed: anything.py")
    site.worker.wait_log(RELOADED, within_s=20)
    assert site.run() == 2


def reload_by_command(site: Site) -> tuple[int, str]:
    command = [sys.executable, "-m", "fastq", "reload", "-n", site.worker.node]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout


def test_the_command_waits_for_it(site: Site) -> None:
    site.code(1)
    site.start()
    site.code(2)
    assert reload_by_command(site) == (0, f"{site.worker.node}: reloaded\n")
    assert site.run() == 2
    site.code(3, broken=True)
    code, says = reload_by_command(site)
    assert code == 1
    assert "could not be loaded; the worker goes on" in says
    assert site.run() == 2


def test_the_old_nursery_is_killed_in_between(site: Site) -> None:
    site.code(1)
    site.start()
    old = site.worker.nursery
    site.send("hold", "long")
    eventually(lambda: site.lab.ledger.count("start", "long"))
    site.code(2)
    site.reload()
    os.kill(old, signal.SIGKILL)
    assert [site.run() for _ in range(4)] == [2] * 4
    assert site.worker.alive


def test_stopped_while_it_loads(site: Site) -> None:
    site.code(1)
    site.start()
    site.code(2)
    site.worker.send(signal.SIGHUP)
    site.worker.wait_log("Loading the application again")
    assert site.worker.stop() == 0
