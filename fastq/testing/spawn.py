"""A nursery that is forked from the engine, with an application that is loaded already."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from fastq import clock
from fastq.app.program import NativeProgram
from fastq.program import Program, ProgramInfo
from fastq.testing import forked

if TYPE_CHECKING:
    from fastq.ipc.messages import Start


class LoadedProgram(NativeProgram):
    """The application of a test, without its schedule: nothing is sent that the test has not sent."""

    def describe(self, *, numbered: Sequence[str] = ()) -> ProgramInfo:
        """As for any worker."""
        return msgspec.structs.replace(super().describe(numbered=numbered), beat=False)


class ForkedNursery:
    """What `Worker` calls to start its nursery: given the nursery's end of their line, returns the process."""

    def __init__(self, program: Program) -> None:
        self.program: Program = program

    def __call__(self, theirs: socket.socket, _start: Start) -> ForkedProcess:
        """Fork it. The engine closes its copy of `theirs` afterwards."""
        return ForkedProcess(forked._forked(lambda: self._be(theirs)))

    def _be(self, theirs: socket.socket) -> int:
        from fastq import nursery

        signal.set_wakeup_fd(-1)  # the engine's
        return nursery.be(theirs, program=self.program)


class ForkedProcess:
    """What the engine wants of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid: int = pid
        self.returncode: int | Any = None

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        if self.returncode is None:
            try:
                found, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                found, status = self.pid, 0
            if found:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        until = None if timeout is None else clock.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and clock.monotonic() > until:
                raise subprocess.TimeoutExpired("nursery", timeout or 0.0)
            clock.sleep(0.002)
        return code

    def kill(self) -> None:
        """Have it ended at once."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
