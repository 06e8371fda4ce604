"""Start the nursery, talk to it, and notice its end."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal, Protocol

from fastq.errors import ProcessLost
from fastq.ipc.group import LEFT_TO_THE_ENGINE
from fastq.ipc.link import Link
from fastq.ipc.messages import Aside, Fork, Notify, Ready, Remember, Start, Stop, ToEngine, ToNursery
from fastq.worker.poll import Poller


class Process(Protocol):
    """What is wanted of `subprocess.Popen`."""

    pid: int
    #: None as long as nobody has found it ended.
    returncode: int | Any

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def kill(self) -> None: ...


#: Starts a nursery whose end of the line this is.
Spawn = Callable[[socket.socket, Start], Process]


class NurseryProcess:
    """The process that holds the application. `said` gets its messages, `ended` its exit code when it is gone."""

    def __init__(
        self,
        start: Start,
        *,
        poller: Poller,
        said: Callable[[NurseryProcess, ToEngine], None],
        ended: Callable[[NurseryProcess], None],
        spawn: Spawn,
    ) -> None:
        self._poller, self._said, self._ended = poller, said, ended
        ours, theirs = socket.socketpair()
        with theirs:
            self.process: Process = spawn(theirs, start)
        ours.setblocking(False)
        self._link: Link[ToEngine] = Link(ours, incoming=ToEngine)
        self._open = True
        #: It has been asked to end.
        self.stopping: bool = False
        self._ready_to_fork = False
        self._wanted: list[Fork | Aside] = []
        self._send(start)
        poller.watch(ours.fileno(), self._ready)

    def __repr__(self) -> str:
        return f"<NurseryProcess pid={self.process.pid}>"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self._open

    def fork(self, slot: int, max_tasks: int | None = None) -> None:
        """Ask for a child in this slot, which leaves after `max_tasks` tasks; `Forked` is the answer."""
        wish = Fork(slot=slot, max_tasks=max_tasks)
        if self._ready_to_fork:
            self._send(wish)
        else:
            self._wanted.append(wish)

    def aside(self, number: int, *, kind: Literal["desk", "beat"] = "desk") -> None:
        """Ask for a process that runs no tasks; `AsideForked` is the answer, and `take_fd` the line to it."""
        wish = Aside(number=number, kind=kind)
        if self._ready_to_fork:
            self._send(wish)
        else:
            self._wanted.append(wish)

    def take_fd(self) -> int:
        """The descriptor that came with an `AsideForked`; the caller's to close."""
        return self._link.take_fd()

    def notify(self, name: str, arguments: dict[str, object]) -> None:
        """Have a signal of the application's main process sent."""
        self._send(Notify(signal=name, arguments=arguments))

    def remember(self, revoked: list[str]) -> None:
        """Have these ids written to the state database."""
        self._send(Remember(revoked=revoked))

    def stop(self) -> None:
        """Ask it to end; `ended` follows."""
        self.stopping = True
        self._send(Stop())

    def _send(self, message: ToNursery) -> None:
        if not self._open:
            return
        try:
            self._link.send(message)
        except ProcessLost:
            self._gone()
        else:
            if self._link.wants_to_write:
                self._poller.watch(self._link.fileno(), self._ready, write=True)

    def _ready(self, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                self._link.flush()
                if not self._link.wants_to_write:
                    self._poller.watch(self._link.fileno(), self._ready)
            if events & ~select.EPOLLOUT:
                for message in self._link.receive():
                    self._hear(message)
        except ProcessLost:
            self._gone()

    def _hear(self, message: ToEngine) -> None:
        if isinstance(message, Ready):
            self._ready_to_fork = True
            for wish in self._wanted:
                self._send(wish)
            self._wanted.clear()
        self._said(self, message)

    def _gone(self) -> None:
        if not self._open:
            return
        self._close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)
        self._ended(self)

    def _close(self) -> None:
        self._open = False
        self._poller.forget(self._link.fileno())
        self._link.close()

    def kill(self) -> None:
        """End it at once, and its children with it; may be called twice."""
        if self._open:
            self._close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def start_afresh(theirs: socket.socket, start: Start) -> Process:
    """A nursery that imports everything anew, whatever this process has become."""
    # They may come to all processes of a worker: kept back until the nursery has handlers, or it would end by them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_ENGINE)
    try:
        process: Process = subprocess.Popen(
            [sys.executable, "-m", "fastq.nursery", str(theirs.fileno())],
            pass_fds=(theirs.fileno(), start.eventfd),
            stdin=subprocess.DEVNULL,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process
