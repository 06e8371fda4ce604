"""Into the background, another user, another file mask: the options of daemons."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.eventually import eventually
from tests.fix_lab import Lab
from tests.fix_worker import WorkerProcess


def nobody_can_run_python() -> bool:
    """Whether another user can reach this interpreter: one below /root, for example, is root's alone."""
    place = Path(sys.base_prefix)
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in (place, *place.parents))


AS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0 or not nobody_can_run_python(), reason="only root can change its user, and nobody has to read"
)


@contextlib.contextmanager
def daemon(lab: Lab, *args: str, **options: Any) -> Iterator[tuple[psutil.Process, Path]]:
    """A worker that was started with -D: its main process and its log. Stopped at the end."""
    log = lab.folder / "daemon-w1.log"
    starter = start(lab, "-D", "--logfile", f"{lab.folder}/daemon-%n%I.log", *args, **options)
    assert starter.wait(within_s=20) == 0, starter.log
    file = lab.folder / "w1.pid"
    process = psutil.Process(int(eventually(lambda: file.exists() and file.read_text(), within_s=20)))
    try:
        eventually(lambda: log.exists() and "ready." in log.read_text(), within_s=20)
        yield process, log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert not file.exists()


def start(lab: Lab, *args: str, **options: Any) -> WorkerProcess:
    worker = lab.worker("--pidfile", f"{lab.folder}/%n.pid", *args, ready=False, **options)
    lab.workers.remove(worker)
    return worker


def test_detached_it_works_in_the_background(lab: Lab) -> None:
    with daemon(lab, "--umask", "077") as (process, log):
        assert lab.run("add", 1, 2) == 3
        assert os.getsid(process.pid) not in (os.getsid(0), process.pid)
        assert os.readlink(f"/proc/{process.pid}/fd/1") == os.devnull
        assert log.stat().st_mode & 0o777 == 0o600
        assert not any(flag in process.cmdline() for flag in ("--detach",))


@pytest.mark.fastq_only("a stock worker leaves its terminal first, and then nobody reads why it ended")
@pytest.mark.parametrize("line", ["--logfile /nowhere/w.log", "--pidfile /nowhere/w.pid", "--executable /no/python"])
def test_what_is_wrong_is_said_before_it_detaches(lab: Lab, line: str) -> None:
    worker = start(lab, "-D", *line.split())
    assert worker.wait(within_s=20) == 2
    assert "/no" in worker.log.splitlines()[-1]


@pytest.mark.fastq_only("a stock worker that is told to detach by its environment does so for ever")
def test_the_environment_detaches_once(lab: Lab) -> None:
    with daemon(lab, env={"CELERY_WORKER_DETACH": "1"}):
        assert lab.run("add", 1, 2) == 3


@AS_ROOT
@pytest.mark.parametrize("way", ["--uid nobody", "--uid 65534 --gid daemon", "worker_uid"])
def test_all_processes_become_the_user(lab: Lab, way: str) -> None:
    open_to_all(lab.folder)
    if way == "worker_uid":
        if lab.engine == "celery":
            pytest.skip("settings of daemons are options there, too; tested with fastq's two processes")
        lab.use(worker_uid="nobody")
        worker = lab.worker()
    else:
        worker = lab.worker(*way.split())
    assert lab.run("add", 1, 2) == 3
    everybody = [psutil.Process(pid) for pid in {worker.pid, worker.nursery, *worker.children}]
    assert {tuple(process.uids()) for process in everybody} == {(65534,) * 3}
    group = 1 if "daemon" in way else 65534
    assert {tuple(process.gids()) for process in everybody} == {(group,) * 3}
    assert all(groups(process.pid) == {group} for process in everybody)


@AS_ROOT
@pytest.mark.fastq_only("about its processes")
def test_processes_of_another_user_die_with_the_main_process(lab: Lab) -> None:
    open_to_all(lab.folder)
    lab.use(worker_uid="nobody")
    worker = lab.worker()
    family = worker.look()
    worker.kill()
    eventually(lambda: not any(process.is_running() for process in family))


def open_to_all(folder: Path) -> None:
    """Let everybody come as far as this folder, and write there."""
    folder.chmod(0o777)
    for above in folder.parents:
        if above.stat().st_uid == os.geteuid() and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o755)


def groups(pid: int) -> set[int]:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Groups:")]
    return {int(word) for word in line.split()[1:]}
