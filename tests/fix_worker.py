"""A real worker process of either engine, started, watched and stopped from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.eventually import NotInTime, eventually

ROOT = Path(__file__).resolve().parent.parent
SHM = Path("/dev/shm")

#: Seconds a worker gets to say that it is ready; a stock one needs about 1.5 on an idle machine.
READY_S = 40.0
#: Seconds a worker without running tasks gets to stop.
STOP_S = 20.0

#: A stock worker spends a second on mingle; nothing here needs it.
QUIET = ("--without-mingle", "--without-gossip", "--without-heartbeat")


class WorkerProcess:
    """`celery worker` or `fastq worker` on one application; `stop` may be called twice."""

    def __init__(
        self,
        *,
        engine: str,
        folder: Path,
        broker: str,
        backend: str = "",
        app: str = "tests.apps.plain",
        args: Sequence[str] = (),
        concurrency: int = 1,
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        name: str = "w1",
        form: str = "-A first",
        quiet: Sequence[str] = QUIET,
        prefix: Sequence[str] = (),
    ) -> None:
        self.engine = engine
        self.folder = folder
        self.node = f"{name}@tests"
        self.log_path = folder / f"{name}-{len(list(folder.glob('*.log')))}.log"
        self.args = (*quiet, "-l", "INFO", "-c", str(concurrency), "-n", self.node, *args)
        self.app = app
        self.form = form
        self.prefix = prefix
        self.env = self._environment(broker=broker, backend=backend, settings=settings or {}, extra=env or {})
        self.killed = False
        self.process: subprocess.Popen[bytes] | None = None
        self._family: dict[int, psutil.Process] = {}
        self._segments: set[str] = set()

    def __repr__(self) -> str:
        state = "not started" if self.process is None else f"pid {self.process.pid}, exit {self.process.poll()}"
        return f"<WorkerProcess {self.engine} {self.node} {state}, log {self.log_path}>"

    def _environment(
        self, *, broker: str, backend: str, settings: Mapping[str, Any], extra: Mapping[str, str]
    ) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CELERY", "FASTQ_TEST", "COV"))}
        own = {
            "FASTQ_TEST_BROKER": broker,
            "FASTQ_TEST_BACKEND": backend or broker,
            "FASTQ_TEST_SETTINGS": json.dumps(dict(settings)),
            "FASTQ_TEST_FOLDER": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "C_FORCE_ROOT": "1",
        }
        named = {f"{self.engine.upper()}_APP": self.app} if self.form == "environment" else {}
        return {**inherited, **own, **named, **extra}

    def command(self) -> list[str]:
        """The command line; `python -m fastq` needs no installed script, a stock worker restarts only as a script."""
        named = {
            "-A first": ["-A", self.app, "worker"],
            "worker first": ["worker", "-A", self.app],
            "environment": ["worker"],
        }
        celery = Path(sys.executable).with_name("celery")
        start = [str(celery)] if self.engine == "celery" and celery.exists() else [sys.executable, "-m", self.engine]
        return [*self.prefix, *start, *named[self.form], *self.args]

    def start(self, *, ready: bool = True) -> WorkerProcess:
        """Start it in a session of its own and wait until it says that it is ready."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env=self.env,
                start_new_session=True,
            )
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, *, within_s: float = READY_S) -> None:
        """Return when the ready line is logged; fail at once, with the log, when the process ends before."""
        eventually(self._ready_or_ended, within_s=within_s, saying=f"{self} says ready:\n{self.log[-3000:]}")
        assert self.is_ready(), f"{self} ended before it was ready:\n{self.log[-3000:]}"
        self.look()

    def _ready_or_ended(self) -> bool:
        return self.is_ready() or not self.alive

    def is_ready(self) -> bool:
        """Whether the ready line has been logged."""
        return f"{self.node} ready." in self.log

    @property
    def log(self) -> str:
        """Everything written to stdout and stderr so far."""
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    def log_lines(self, pattern: str) -> list[str]:
        """The lines of the log in which the pattern is found."""
        return [line for line in self.log.splitlines() if re.search(pattern, line)]

    def wait_log(self, pattern: str, *, within_s: float = 10.0) -> list[str]:
        """Wait for a line with the pattern."""
        return eventually(lambda: self.log_lines(pattern), within_s=within_s, saying=f"log of {self} has {pattern!r}")

    @property
    def segments(self) -> list[Path]:
        """The files of its shared memory, as far as they have been seen: `look`, `send` and `kill` do."""
        return sorted(map(Path, self._segments))

    @property
    def pid(self) -> int:
        """The main process: engine or Celery's main."""
        assert self.process is not None, f"{self} was not started"
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the main process still runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code, None while it runs."""
        return None if self.process is None else self.process.poll()

    def look(self) -> list[psutil.Process]:
        """Remember and return all processes of the worker's session that are alive, the main one excepted."""
        for process in psutil.process_iter():
            if _session_of(process.pid) == self.pid and process.pid != self.pid:
                self._family[process.pid] = process
        self._segments |= _segments_of(self.pid)
        return [process for process in self._family.values() if _lives(process)]

    @property
    def nursery(self) -> int:
        """The nursery's pid; on a stock worker, whose main process forks, that of the main process."""
        if self.engine == "celery":
            return self.pid
        direct = [process.pid for process in self.look() if _parent_of(process) == self.pid]
        assert len(direct) == 1, f"{self} has no single nursery: {direct}"
        return direct[0]

    @property
    def children(self) -> list[int]:
        """Pids of the processes that run tasks."""
        parent = self.nursery
        return sorted(process.pid for process in self.look() if _parent_of(process) == parent)

    def send(self, number: signal.Signals) -> None:
        """Signal the main process."""
        self.look()
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL the main process; everything else of the worker must follow it."""
        self.killed = True
        self.send(signal.SIGKILL)
        self.wait(within_s=10)

    def wait(self, *, within_s: float = STOP_S) -> int:
        """Wait for its end; the exit code."""
        assert self.process is not None, f"{self} was not started"
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired as late:
            raise NotInTime(f"{self} did not end within {within_s} s:\n{self.log[-3000:]}") from late

    def stop(self, number: signal.Signals = signal.SIGTERM, *, within_s: float = STOP_S) -> int:
        """Signal it and wait for its end; the exit code."""
        if self.alive:
            self.send(number)
        return self.wait(within_s=within_s)

    def finish(self) -> None:
        """End it whatever happens, then assert that none of its processes and segments is left."""
        try:
            if self.alive:
                self.stop()
            if self.process is not None:
                self.assert_nothing_left()
        finally:
            self._kill_all()

    def assert_nothing_left(self) -> None:
        """No process of the worker lives, and (unless it was killed) no shared memory of it."""
        eventually(lambda: not self.look(), within_s=5, saying=f"all processes of {self} are gone: {self.look()}")
        if not self.killed:
            left = [name for name in self._segments if Path(name).exists()]
            assert not left, f"{self} left shared memory behind: {left}"

    def _kill_all(self) -> None:
        if self.process is None:
            return
        for pid in [*(process.pid for process in self.look()), *([self.pid] if self.alive else [])]:
            _kill(pid)
        self.process.wait(10)


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _parent_of(process: psutil.Process) -> int:
    try:
        return int(process.ppid())
    except psutil.Error:
        return -1


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _segments_of(pid: int) -> set[str]:
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return set()
    return set(re.findall(rf"{SHM}/fastq\S*", maps))
