"""Programs that run behind a command or a test: their log, their CPU time, and that none of them is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def start(
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    orphaned: signal.Signals = signal.SIGTERM,
    prepare: Callable[[], None] = lambda: None,
) -> subprocess.Popen[bytes]:
    """Start a program that writes to a file; returns at once. Raises OSError.

    `orphaned` is the signal that it gets when the thread that called this has ended (prctl(2), PR_SET_PDEATHSIG);
    `prepare` runs between fork and exec. It has a session of its own: Ctrl-C is for the caller, who ends it in order.
    """

    def begin() -> None:
        die_with_parent(orphaned)
        prepare()

    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=begin,
        )


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Get a signal when the parent's thread has ended; for use between fork and exec. libc is loaded already."""
    _libc.prctl(_PR_SET_PDEATHSIG, number)


def end(process: subprocess.Popen[bytes], *, within_s: float, group: bool = False) -> None:
    """TERM (to its whole process group, if so), time to finish, then KILL for whatever is left of it and of what it has
    started. Blocks."""
    family = family_of(process.pid)
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(process.pid, signal.SIGTERM)
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for left in family:
        with contextlib.suppress(psutil.Error):
            left.kill()


def family_of(pid: int) -> list[psutil.Process]:
    """The processes that a process has started, and those that they have started."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, from the scheduler's nanoseconds where they are shown; 0 if it has ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        if found := list(Path(f"/proc/{pid}/task").glob("*/schedstat")):
            return sum(int(path.read_text().split()[0]) for path in found) / 1e9
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0
