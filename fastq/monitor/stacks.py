"""Ask a process of a worker where it is, and read its answer (see `fastq.dumps`)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from fastq import clock, dumps

#: Seconds that a process gets to answer, and between two looks at whether it has.
ANSWER_S, LOOK_S = 1.0, 0.005


def stacks_of(pid: int) -> str:
    """The stacks of all threads of a process; a remark in parentheses where there are none to be had. Blocks up to a
    second."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return "(the process is gone)"
    try:
        return _ask(pid, pidfd)
    except PermissionError:
        return "(it belongs to another user)"
    except OSError:
        return "(the process is gone)"
    finally:
        os.close(pidfd)


def _ask(pid: int, pidfd: int) -> str:
    # Only a process that has the memory has the handler; the signal would end any other.
    path = _memory(pid)
    if path is None:
        return "(it does not answer yet, or runs another program)"
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, 0)
        signal.pidfd_send_signal(pidfd, dumps.SIGNAL)
        return _read(fd) or "(no answer: it is stopped, or waits in the kernel)"
    finally:
        os.close(fd)


def _memory(pid: int) -> Path | None:
    folder = Path(f"/proc/{pid}/fd")
    for entry in folder.iterdir():
        try:
            if f"memfd:{dumps.NAME}" in os.readlink(entry):
                return entry
        except OSError:
            continue  # closed meanwhile
    return None


def _read(fd: int) -> str:
    # An answer has no end mark: it is whole when it grows no more.
    until_s, size = clock.monotonic() + ANSWER_S, 0
    while clock.monotonic() < until_s:
        clock.sleep(LOOK_S)
        now = os.fstat(fd).st_size
        if now and now == size:
            break
        size = now
    return os.pread(fd, 1 << 20, 0).decode("utf-8", "replace").strip()
