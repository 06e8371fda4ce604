"""`celery multi` starts, finds and stops workers by their pidfiles."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.eventually import eventually
from tests.fix_lab import Lab
from tests.fix_worker import ROOT, WorkerProcess


def test_celery_multi_starts_and_stops_workers(lab: Lab) -> None:
    model = WorkerProcess(engine=lab.engine, folder=lab.folder, **lab._defaults())

    def multi(command: str) -> None:
        files = [f"--pidfile={lab.folder}/%n.pid", f"--logfile={lab.folder}/%n%I.log"]
        cmd = f"--cmd=-m {lab.engine} {'celery ' if lab.engine == 'fastq' else ''}worker --detach"
        words = [command, "one", "two", cmd, *files, "-l", "INFO", "-c", "1", "--without-mingle"]
        subprocess.run(
            [sys.executable, "-m", "celery", "-A", lab.module, "multi", *words], env=model.env, cwd=ROOT, check=True
        )

    multi("start")
    try:
        logs = [lab.folder / "one.log", lab.folder / "two.log"]
        eventually(lambda: all(log.exists() and "ready." in log.read_text() for log in logs), within_s=40)
        assert lab.run("add", 1, 2) == 3
        pids = [int((lab.folder / f"{name}.pid").read_text()) for name in ("one", "two")]
    finally:
        multi("stopwait")
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
    assert not list(lab.folder.glob("*.pid"))
