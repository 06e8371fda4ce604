"""The operating system's signals: handlers queue and wake, nothing else; the loop acts."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterable

from fastq.worker.poll import Poller


class Signals:
    """Signals of this process, brought to its loop in the order in which they came. `heard` is called at once, in the
    handler: it has to be short, and to block never."""

    def __init__(
        self, poller: Poller, *, numbers: Iterable[int], heard: Callable[[int], None], act: Callable[[int], None]
    ) -> None:
        self._poller, self._heard, self._act = poller, heard, act
        self._queue: deque[int] = deque()
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self._before = {number: signal.signal(number, self._note) for number in numbers}
        self._wakeup_before = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        poller.watch(self._read.fileno(), self._wake)

    def _note(self, number: int, _frame: object) -> None:
        self._heard(number)
        self._queue.append(number)

    def _wake(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._read.recv(4096)
        while self._queue:
            self._act(self._queue.popleft())

    def close(self) -> None:
        """Give the signals back to whoever had them."""
        self._poller.forget(self._read.fileno())
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._read.close()
        self._write.close()


def send(pidfd: int, number: int) -> bool:
    """Send a signal to the process behind a pidfd; False if it is gone."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def open_pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends (pidfd_open(2)); None if it is gone already."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def death_note(status: int, *, number: int) -> str:
    """Celery's words for the way in which a child ended, from its wait status."""
    if os.WIFSIGNALED(status):
        signum = os.WTERMSIG(status)
        name = signal.Signals(signum).name if signum in list(signal.Signals) else "unknown"
        return f"Worker exited prematurely: signal {signum} ({name}) Job: {number}."
    return f"Worker exited prematurely: exitcode {os.waitstatus_to_exitcode(status)} Job: {number}."


def signal_name(number: int) -> str:
    """SIGTERM and the like."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
