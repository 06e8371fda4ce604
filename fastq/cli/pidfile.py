"""Hold a pidfile while the worker lives: refuse when a live process has it, remove a stale one, leave none behind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from fastq.errors import OptionError, PidfileHeld

#: Seconds that a file's date may lag behind the start of the process that wrote it: clocks of two kinds are compared.
_SLACK_S = 2.0


@contextlib.contextmanager
def held(path: str) -> Iterator[None]:
    """Own the pidfile in the block. Raises PidfileHeld, or OptionError when it cannot be written."""
    file = Path(path).absolute()
    take(file)
    try:
        yield
    finally:
        release(file)


def take(file: Path) -> None:
    """Write our process id into the file, unless a live process is in it."""
    try:
        with _folder_locked(file.parent):
            check(file)
            _replace(file)
    except OSError as error:
        raise OptionError(f"pidfile {file}: cannot be written: {error.strerror or error}") from error


def check(file: Path) -> None:
    """Raises PidfileHeld if a live process is in the file, OSError if it cannot be read."""
    owner = live_owner(file)
    if owner is not None:
        raise PidfileHeld(f"pidfile {file}: process {owner} is alive and holds it; stop it, or use another file")


def release(file: Path) -> None:
    """Remove the file, if it is still ours."""
    if recorded_pid(file) == os.getpid():
        file.unlink(missing_ok=True)


def live_owner(file: Path) -> int | None:
    """The process id in the file, if that process lives, is not this one, and is old enough to have written it."""
    pid = recorded_pid(file)
    # Our own number: we were started again by exec (HUP), or a container gave the same number to every start.
    if pid is None or pid == os.getpid():
        return None
    return pid if _could_have_written(pid, file) else None


def recorded_pid(file: Path) -> int | None:
    """The number in the file. None when there is no file, or no number in it."""
    try:
        pid = int(file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return pid if pid > 0 else None


def _could_have_written(pid: int, file: Path) -> bool:
    """False when there is no such process, or when it started after the file was written: its number was used again."""
    import psutil  # only here: a start without a pidfile in its way does without it

    try:
        started = psutil.Process(pid).create_time()
        return started <= file.stat().st_mtime + _SLACK_S
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False


def _replace(file: Path) -> None:
    """In one step, so that nobody reads half a number."""
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    fresh.write_text(f"{os.getpid()}\n")
    fresh.chmod(0o644)
    fresh.replace(file)


@contextlib.contextmanager
def _folder_locked(folder: Path) -> Iterator[None]:
    """Two workers that start at once look and write one after the other."""
    import fcntl  # Windows has none, and imports what comes before a start, too

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
