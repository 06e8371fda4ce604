"""Make, find, lock and remove the file behind a worker's shared memory.

The file has a name and outlives its worker on purpose: whoever restores a dead worker's claims on the same host reads
from it which tasks had been started. A lock held by the engine (flock) says whether it lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path

from fastq import _core, clock
from fastq.errors import SurroundingsError

#: Bytes of a child's task ring: about a thousand messages of a kilobyte. A ring is filled only as far as children are
#: expected to get within tens of milliseconds, so more would buy nothing.
TASK_BYTES = 1 << 20

#: Bytes of a child's result ring: the results of about eight hundred small tasks, between two flushes.
RESULT_BYTES = 1 << 19

#: Seconds after which nobody will restore from the segment of a worker that is gone.
FORGOTTEN_S = 24 * 3600

#: Where segments are made: memory if it is there and has room, else the disk. (The module `tempfile` is a third of
#: what a probe would import.)
_PLACES = (Path("/dev/shm"), Path(os.environ.get("TMPDIR") or "/tmp"))


class SharedSegment:
    """A mapped segment file. The engine's copy owns the file and its lock; the others only look."""

    def __init__(self, path: Path, *, mapping: mmap.mmap, core: _core.Segment, fd: int | None = None) -> None:
        self.path = path
        self.core = core
        self.board: _core.Board = _core.Board(core)
        self._mapping = mapping
        self._fd = fd

    def __repr__(self) -> str:
        return f"<SharedSegment {self.path} slots={self.core.slots}>"

    @classmethod
    def create(
        cls, worker: str, *, slots: int, task_bytes: int = TASK_BYTES, result_bytes: int = RESULT_BYTES
    ) -> SharedSegment:
        """A fresh segment for `worker`, locked. Raises SurroundingsError if no place has room for it."""
        size = _core.Segment.size_of(slots, task_bytes, result_bytes)
        remove_forgotten()
        failures = []
        for place in _PLACES:
            try:
                return cls._create_in(
                    place, worker, size, slots=slots, task_bytes=task_bytes, result_bytes=result_bytes
                )
            except OSError as error:
                failures.append(f"{place}: {error.strerror or error}")
        raise SurroundingsError(
            f"no room for {size >> 20} MiB of shared memory ({'; '.join(failures)}); "
            "enlarge /dev/shm (docker: --shm-size) or lower --concurrency"
        )

    @classmethod
    def _create_in(
        cls, place: Path, worker: str, size: int, *, slots: int, task_bytes: int, result_bytes: int
    ) -> SharedSegment:
        path = place / f"fastq-{worker.replace('/', '_')}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, size)
            os.posix_fallocate(fd, 0, mmap.PAGESIZE)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mapping = mmap.mmap(fd, size)
            core = _core.Segment.create(
                mapping, slots=slots, task_bytes=task_bytes, result_bytes=result_bytes, worker=worker.encode()
            )
            os.posix_fallocate(fd, *core.board_place)
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        core.engine_pid = os.getpid()
        return cls(path, mapping=mapping, core=core, fd=fd)

    def reserve(self, slot: int, *, berths: int = 0) -> None:
        """Have memory for a slot, and for so many tasks in flight, now: a full disk would be a SIGBUS later. Raises
        SurroundingsError."""
        assert self._fd is not None
        places = self.core.slot_places(slot, berths)
        need = sum(size for _, size in places)
        try:
            for place in places:
                os.posix_fallocate(self._fd, *place)
        except OSError as error:
            raise SurroundingsError(
                f"no room for another {need >> 10} KiB of shared memory in {self.path.parent} ({error.strerror}); "
                "enlarge it (docker: --shm-size) or lower --concurrency"
            ) from error

    @classmethod
    def attach(cls, path: str | os.PathLike[str]) -> SharedSegment:
        """Map somebody else's segment. Raises OSError if it is not there, ValueError if it is none."""
        with open(path, "r+b") as file:
            mapping = mmap.mmap(file.fileno(), 0)
        return cls(Path(path), mapping=mapping, core=_core.Segment.attach(mapping))

    def remove(self) -> None:
        """Remove the file, its lock, and side files that nobody read; may be called twice."""
        remove_files(self.path)
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def remove_files(path: Path) -> None:
    """Remove a segment's file and its side files."""
    for file in [path, *path.parent.glob(f"{_escape(path.name)}.[rst]*")]:
        with contextlib.suppress(FileNotFoundError):
            file.unlink()


def segment_files(pattern: str = "fastq-*@*") -> list[Path]:
    """Files of this host that may be segments. Side files are among them if their segment is gone."""
    return [path for place in _PLACES for path in place.glob(pattern) if not _is_side_file(path)]


def _is_side_file(path: Path) -> bool:
    return any(path.with_name(path.name[: dot.start()]).exists() for dot in re.finditer(r"\.[rst]", path.name))


def is_held(path: Path) -> bool:
    """Whether an engine holds the lock of a segment. Does not try to take it, not even for a moment: whoever restores
    a dead worker's claims might come at that very moment, and find it held."""
    try:
        inode = path.stat().st_ino
        locks = Path("/proc/locks").read_text()
    except OSError:
        return path.exists()
    return any(" FLOCK " in line and f":{inode} " in line for line in locks.splitlines())


def stack_path(segment: str, slot: int) -> Path:
    """The file in which a slot's child says where it was when it ended by a fatal error."""
    return Path(f"{segment}.s{slot}")


def remove_forgotten(pattern: str = "fastq-*@*", *, after_s: float = FORGOTTEN_S) -> None:
    """Remove segments that workers of this user left here so long ago, and that no worker came to restore from."""
    for path in segment_files(pattern):
        with contextlib.suppress(OSError):
            old = clock.now() - path.stat().st_mtime >= after_s
            if old and path.stat().st_uid == os.getuid() and (fd := _lock(str(path))) is not None:
                os.close(fd)
                remove_files(path)


@contextlib.contextmanager
def dead_segment(path: str) -> Iterator[SharedSegment | None]:
    """The segment of a worker that is gone, locked meanwhile; None if it is not here or its engine lives."""
    fd = _lock(path)
    if fd is None:
        yield None
        return
    try:
        yield _attach(path)
    finally:
        os.close(fd)


def _lock(path: str) -> int | None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _attach(path: str) -> SharedSegment | None:
    try:
        return SharedSegment.attach(path)
    except (OSError, ValueError):
        return None


def _escape(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
