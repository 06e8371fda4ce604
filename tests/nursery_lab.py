"""A nursery without an engine: the test is at the other end of its link and of one child's rings."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from fastq import _core
from fastq.config.settings import WorkerOptions
from fastq.errors import ProcessLost
from fastq.ipc.link import Link
from fastq.ipc.messages import Exited, Failed, Fork, Forked, Notify, Ready, Start, Stop, ToEngine
from tests.core.task_ring import TaskRing
from tests.eventually import eventually

ROOT = Path(__file__).resolve().parent.parent

#: An application that writes down everything that happens to it.
APPLICATION = """
import atexit, os, signal, sys, time
from celery import Celery, signals

LOG = os.path.join(os.path.dirname(os.path.abspath(__file__)), "told.txt")

def tell(*words):
    fd = os.open(LOG, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
    os.write(fd, (" ".join(map(str, words)) + "\\n").encode())
    os.close(fd)

app = Celery("told", broker="memory://", backend="cache+memory://")

@app.task(name="t.tell")
def tell_task(word="ran"):
    tell("task", word, os.getpid())

@app.task(name="t.leave")
def leave(code):
    sys.exit(code)

@app.task(name="t.nap")
def nap(seconds):
    try:
        time.sleep(seconds)
    finally:
        tell("woke")

@app.task(name="t.hook")
def hook():
    atexit.register(tell, "exit-hook")

NAMES = [
    "celeryd_init", "worker_init", "celeryd_after_setup", "worker_ready", "worker_shutting_down", "worker_shutdown",
    "worker_process_init", "worker_process_shutdown", "import_modules", "after_setup_logger",
]

def connect(name):
    def receive(sender=None, **facts):
        tell("signal", name, type(sender).__name__, "main" if os.getpid() == MAIN else "child",
             facts.get("exitcode", ""))
    globals()["keep_" + name] = receive
    getattr(signals, name).connect(receive)

MAIN = os.getpid()
for name in NAMES:
    connect(name)
atexit.register(lambda: tell("inherited-hook", "main" if os.getpid() == MAIN else "child"))
"""


class NurseryLab:
    """Starts `python -m fastq.nursery` in a folder; `close` ends it."""

    def __init__(self, folder: Path, *, source: str = APPLICATION, module: str = "told", **environment: str) -> None:
        self.folder = folder
        (folder / f"{module}.py").write_text(source)
        self.ring = TaskRing()
        self.path = folder / "segment"
        self._share_segment()
        self.eventfd = os.eventfd(0)
        os.set_inheritable(self.eventfd, True)
        ours, theirs = socket.socketpair()
        with theirs, (folder / "stderr.txt").open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fastq.nursery", str(theirs.fileno())],
                pass_fds=(theirs.fileno(), self.eventfd),
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "C_FORCE_ROOT": "1", **environment},
                stderr=stderr,
                stdout=subprocess.DEVNULL,
            )
        self.link: Link[Any] = Link(ours, incoming=ToEngine)
        self._heard: list[Any] = []

    def _share_segment(self) -> None:
        # The ring's memory, in a file that the nursery can map.
        size = len(self.ring.memory)
        with self.path.open("w+b") as file:
            file.truncate(size)
            self.ring.memory = mmap.mmap(file.fileno(), size)
        self.ring.segment = _core.Segment.create(
            self.ring.memory, slots=1, task_bytes=self.ring.task_bytes, result_bytes=self.ring.result_bytes, worker=b"t"
        )

    def start(self, **options: Any) -> Ready | Failed:
        """Send the options; what the nursery answers."""
        chosen = WorkerOptions(**{"app": "told", "loglevel": "INFO", "hostname": "w1@lab", **options})
        self.link.send(Start(options=chosen, segment=str(self.path), eventfd=self.eventfd, worker="w1"))
        answer = self.hear()
        assert isinstance(answer, (Ready, Failed))
        self.names = [task.name for task in answer.program.tasks] if isinstance(answer, Ready) else []
        return answer

    def hear(self) -> Any:
        """The next message of the nursery."""
        while not self._heard:
            self._heard = self.link.receive()
        return self._heard.pop(0)

    def fork(self, *, max_tasks: int | None = None) -> int:
        """Fork the child of slot 0 and wait until it takes tasks; its pid."""
        self.link.send(Fork(slot=0, max_tasks=max_tasks))
        forked = self.hear()
        assert isinstance(forked, Forked)
        eventually(lambda: self.ring.segment.state(0) == _core.READY, saying=self.errors)
        return forked.pid

    def put(self, envelope: bytes, name: str, *, late: bool = False) -> None:
        """Deal a task."""
        self.ring.put(envelope, task=self.names.index(name), flags=_core.LATE if late else 0)
        self.ring.wake()

    def leave(self) -> Exited:
        """Ask the child to leave; how it ended."""
        self.ring.leave()
        self.ring.wake()
        return self.exited()

    def exited(self) -> Exited:
        """How the child ended."""
        found = self.hear()
        assert isinstance(found, Exited)
        return found

    def notify(self, signal: str, **arguments: Any) -> None:
        self.link.send(Notify(signal=signal, arguments=arguments))

    def stop(self) -> int:
        """Stop it in order; its exit code."""
        self.link.send(Stop())
        return self.process.wait(10)

    @property
    def told(self) -> list[str]:
        """What the application wrote down."""
        path = self.folder / "told.txt"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def errors(self) -> str:
        """What was written to stderr."""
        return (self.folder / "stderr.txt").read_text()

    def close(self) -> None:
        """End it, whatever state it is in; may be called twice."""
        self.link.close()
        os.close(self.eventfd)
        try:
            self.process.wait(10)
        except (subprocess.TimeoutExpired, ProcessLost):
            self.process.kill()
            self.process.wait()
