"""The worker that `fastq bench` starts: a process of either engine on the bench's queue; what it costs, by role."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec
import psutil

from fastq import background
from fastq.background import cpu_s, family_of
from fastq.cli.bench_place import QUEUE
from fastq.errors import SurroundingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

#: Seconds that the worker gets to stop in order. Its queue is thrown away afterwards, so nothing is lost with it.
STOP_S = 8.0

#: Characters of its log that an error shows.
TAIL = 2000

#: Variables that are options of workers: none of them is meant for this one.
_WORKERS = ("FASTQ_WORKER_", "CELERY_WORKER_", "CELERYD_")


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """CPU seconds of a worker so far."""

    main_s: float
    children_s: float


class BenchWorker:
    """A worker of one engine, from the beginning of the block to its end."""

    def __init__(
        self,
        engine: str,
        *,
        app: str | None,
        concurrency: int,
        overrides: Sequence[str],
        more: Sequence[str],
        folder: Path,
    ) -> None:
        self.engine = engine
        self._log = folder / f"{engine}.log"
        self._command = [
            *(sys.executable, "-m", engine),
            *(("-A", app) if app else ()),
            "worker",
            *("-Q", QUEUE, "-c", str(concurrency), "-n", f"bench-{engine}@%h", "-l", "WARNING"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            # The application may have files of its own for these, which belong to its workers.
            *("-f", str(self._log), "--pidfile", str(folder / f"{engine}.pid"), "-S", str(folder / f"{engine}.state")),
            *(("--without-schedule",) if engine == "fastq" else ()),
            *more,
            *("--", *overrides),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_WORKERS)}
        self._process = background.start(self._command, log=self._log, env=environment)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Of its main process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """The end of what it has written."""
        return self._log.read_text(errors="replace")[-TAIL:].strip() if self._log.exists() else ""

    def check(self) -> None:
        """Raise SurroundingsError, with the end of its log, if it has ended."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise SurroundingsError(f"the {self.engine} worker ended with exit code {code}; its log:\n{self.log}")

    def cost(self) -> Cost:
        """CPU time so far: of the main process, and of all others."""
        return Cost(main_s=cpu_s(self.pid), children_s=sum(cpu_s(one.pid) for one in family_of(self.pid)))

    def memory_mib(self) -> float | None:
        """Memory of all its processes, shared pages counted once (PSS); None if the kernel does not say."""
        family = [psutil.Process(self.pid), *family_of(self.pid)]
        with contextlib.suppress(psutil.Error, AttributeError):
            return sum(float(one.memory_full_info().pss) for one in family) / 2**20
        return None

    def stop(self) -> None:
        """TERM, time to finish, then KILL for whatever of it is left. May be called twice."""
        process, self._process = self._process, None
        if process is not None:
            background.end(process, within_s=STOP_S)
