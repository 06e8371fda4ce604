"""Settle in: file mask, user and group, and into the background with --detach, as Celery does."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

from fastq.cli import pidfile
from fastq.config.identity import become, identity
from fastq.config.nodename import file_name, node_name
from fastq.config.settings import WorkerOptions
from fastq.errors import OptionError

#: Holds the id of the process that has detached. It outlives exec, so neither the new image nor a restart by HUP
#: detaches once more; a worker that a task starts has another id.
_MARK = "FASTQ_DETACHED"

#: Celery's variable for not leaving the terminal after all, when looking for a mistake.
_FAKE = "C_FAKEFORK"


def settle_in(options: WorkerOptions) -> str:
    """Apply --umask, --uid and --gid. Returns a remark for the log, or ""."""
    if options.umask is not None:
        os.umask(options.umask)
    return become(identity(options.uid, options.gid))


def wants_to_detach(options: WorkerOptions) -> bool:
    """Whether --detach was given and has not been done."""
    return options.detach and os.environ.get(_MARK) != str(os.getpid())


def detach(options: WorkerOptions) -> None:
    """Go to the background and run the same command line there. Does not return.

    What is wrong with log file, pidfile or --executable is raised before, while somebody reads it: OptionError or
    PidfileHeld.
    """
    program = executable(options.executable)
    _check_logfile(options)
    _check_pidfile(options)
    if not os.environ.get(_FAKE):
        _leave_the_terminal()
    os.environ[_MARK] = str(os.getpid())
    os.execv(program, [program, "-m", "fastq", *sys.argv[1:]])


def executable(name: str | None) -> str:
    """The path of the Python to run. Raises OptionError."""
    path = shutil.which(name) if name else sys.executable
    if not path:
        raise OptionError(f"--executable: {name!r} cannot be run")
    return path


def _check_logfile(options: WorkerOptions) -> None:
    """Afterwards nobody would hear that the log cannot be written."""
    if options.logfile is None:
        return
    path = file_name(options.logfile, node=node_name(options.hostname))
    try:
        open(path, "ab").close()
    except OSError as error:
        raise OptionError(f"{options.given['logfile']}: cannot open {path}: {error.strerror or error}") from error


def _check_pidfile(options: WorkerOptions) -> None:
    if options.pidfile is None:
        return
    file = Path(file_name(options.pidfile, node=node_name(options.hostname))).absolute()
    pidfile.check(file)
    if not os.access(file.parent, os.W_OK):
        raise OptionError(f"pidfile {file}: cannot be written")


def _leave_the_terminal() -> None:
    """A session of its own, and no chance to get a terminal again: that is what the second fork is for."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself is closed by now
                os.close(int(name))
