"""Start a worker of either engine, know its processes by role, and leave none behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol

import msgspec
import psutil

from bench import cores
from bench.measurement import Roles
from fastq import background
from fastq.background import cpu_s, die_with_parent, family_of

ROOT = Path(__file__).parent.parent

#: Seconds a worker gets to stop in order before its processes are killed. Celery needs one to three, but three of four
#: times it did not come to an end within 20 when it was told to stop while working (Ctrl-C in the demo).
STOP_S = 6.0

#: What every figure of this folder is about, besides fastq's own defaults.
CELERY_TUNING = ("-O", "fair", "--without-gossip", "--without-mingle", "--without-heartbeat")


class Program(Protocol):
    """Whatever can be started as a worker."""

    @property
    def name(self) -> str:
        """For messages and file names."""

    @property
    def nursery(self) -> bool:
        """Whether there is a process between the main one and the children."""

    @property
    def tell_all(self) -> bool:
        """Whether each of its processes must get the signal to stop, as a service manager sends it."""

    def command(self, app: str, *, queue: str, children: int) -> list[str]:
        """Its command line."""


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """A worker program and the options that make it fast."""

    name: str
    module: str
    tuning: tuple[str, ...] = ()
    nursery: bool = False
    tell_all: bool = False

    def command(self, app: str, *, queue: str, children: int) -> list[str]:
        """The command line of a worker of this engine."""
        options = ["-Q", queue, "-c", str(children), "-l", "WARNING", "-n", f"bench-{self.name}@%h"]
        return [sys.executable, "-m", self.module, "-A", app, "worker", *options, *self.tuning]


FASTQ = Engine(name="fastq", module="fastq", nursery=True)
CELERY = Engine(name="celery", module="celery", tuning=CELERY_TUNING)

ENGINES = {engine.name: engine for engine in (FASTQ, CELERY)}


def as_worker() -> None:
    """Run between fork and exec of a worker, whosever: it ends with the bench, and has the worker's cores."""
    die_with_parent()
    cores.pin("worker")


class Worker:
    """A running worker: started with the block, stopped in order at its end, or killed if it will not."""

    def __init__(
        self,
        engine: Program,
        *,
        app: str,
        queue: str,
        children: int,
        environment: Mapping[str, str],
        log: Path,
        workdir: Path = ROOT,
        stop_s: float = STOP_S,
    ) -> None:
        self.engine = engine
        self._command = engine.command(app, queue=queue, children=children)
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        self._log = log
        self._workdir = workdir
        self._stop_s = stop_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; returns at once."""
        self._process = background.start(
            self._command,
            log=self._log,
            env=self._environment,
            cwd=self._workdir,
            prepare=lambda: cores.pin("worker"),
        )

    @property
    def main(self) -> psutil.Process:
        """The process that was started: fastq's engine, Celery's main process."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def check(self) -> None:
        """Raise RuntimeError, with the end of its log, if the worker has ended."""
        if self._process is not None and self._process.poll() is not None:
            tail = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.engine.name} worker ended with {self._process.returncode}:\n{tail}")

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Its processes by role."""
        first = self.main.children()
        if not self.engine.nursery:
            return {"engine": [self.main], "nursery": [], "children": first}
        return {"engine": [self.main], "nursery": first, "children": [two for one in first for two in one.children()]}

    def cpu_s(self) -> Roles:
        """CPU seconds used so far by each role. The server's are not known here."""
        return Roles(**{role: sum(cpu_s(one.pid) for one in processes) for role, processes in self.processes().items()})

    def kill(self) -> None:
        """KILL for all of its processes at once, as when a machine goes."""
        process, self._process = self._process, None
        if process is None:
            return
        family = family_of(process.pid)
        process.kill()
        for each in family:
            with contextlib.suppress(psutil.Error):
                each.kill()
        process.wait()

    def stop(self, *, within_s: float | None = None) -> None:
        """TERM, time to finish, then KILL for whatever of its processes is left. May be called twice."""
        process, self._process = self._process, None
        if process is not None:
            background.end(process, within_s=self._stop_s if within_s is None else within_s, group=self.engine.tell_all)


def wait_for(
    condition: Callable[[], object], *, within_s: float, worker: Worker | None = None, every_s: float = 0.01
) -> None:
    """Wait until `condition()` holds. Raises TimeoutError, or what the worker's death raises."""
    deadline = time.monotonic() + within_s
    while not condition():
        if worker is not None:
            worker.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition} did not come true within {within_s:g} s")
        time.sleep(every_s)
