"""Let a process be asked from outside where it is: on a signal it writes the stacks of its threads, whatever it does.

The interpreter's faulthandler does it in the signal handler itself, so a process answers that never comes back to its
loop. It writes into memory without a name (memfd), which whoever may read this process's descriptors reads; nothing is
left when the process ends. The signal is SIGRTMIN+8: Celery, billiard and the usual agents use none of the real-time
signals. Programs that a task starts do not inherit any of it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import signal

#: What asks for the stacks.
SIGNAL = signal.SIGRTMIN + 8

#: Name of the memory: how a reader finds it, and knows that a process will not be ended by the signal.
NAME = "fastq-stacks"

_file: int | None = None


def answer() -> None:
    """Answer from now on. In a forked child again: it must not write where its parent does."""
    global _file
    previous, _file = _file, os.memfd_create(NAME, os.MFD_CLOEXEC)
    # Each answer goes to the end, also after a reader has cut off what was there.
    fcntl.fcntl(_file, fcntl.F_SETFL, fcntl.fcntl(_file, fcntl.F_GETFL) | os.O_APPEND)
    faulthandler.register(SIGNAL, file=_file, all_threads=True, chain=False)
    if previous is not None:
        with contextlib.suppress(OSError):
            os.close(previous)
