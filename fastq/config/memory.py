"""Measure memory: what this process's control groups and the host leave, how much it is missed, what a process has."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from fastq.config.groups import ROOT, field, group_folders, number, read

#: Limits of version 1 that mean "none": the largest number of pages, in bytes.
_NO_LIMIT = 1 << 60

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """How much memory there is for this process and its children, in bytes."""

    #: The smallest limit above it, or the host's memory.
    total: int
    #: What can be taken without swapping: the least of the host's MemAvailable and what each group leaves.
    available: int
    #: Where the least was found: `host` or `cgroup`.
    bound: str = "host"


def room(*, root: Path = ROOT) -> Room:
    """What there is now. Page cache counts as available: it is given back before anything is killed."""
    total = (field(root / "proc/meminfo", "MemTotal") or 0) << 10
    available = (field(root / "proc/meminfo", "MemAvailable") or 0) << 10
    found = Room(total=total, available=available)
    for folder in group_folders(root, controller="memory"):
        group = _room_of(folder)
        if group is not None and (group.available < found.available or not found.total):
            found = group
    return found


def _room_of(folder: Path) -> Room | None:
    """What one group leaves; None where it sets no limit."""
    limit, used = number(folder / "memory.max"), number(folder / "memory.current")
    cache = field(folder / "memory.stat", "inactive_file")
    if limit is None:
        limit, used = number(folder / "memory.limit_in_bytes"), number(folder / "memory.usage_in_bytes")
        cache = field(folder / "memory.stat", "total_inactive_file")
    if limit is None or used is None or limit >= _NO_LIMIT:
        return None
    return Room(total=limit, available=max(0, limit - max(0, used - (cache or 0))), bound="cgroup")


def pressure(*, root: Path = ROOT) -> float | None:
    """Percent of the last ten seconds in which something waited for memory (PSI): the worst of this process's groups
    and the host. None where the kernel does not tell."""
    files = [folder / "memory.pressure" for folder in group_folders(root, controller="memory")]
    found = [share for file in [root / "proc/pressure/memory", *files] if (share := _some_of(file)) is not None]
    return max(found, default=None)


def _some_of(file: Path) -> float | None:
    for line in read(file).splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "some":
            fields = dict(word.split("=", 1) for word in rest.split() if "=" in word)
            try:
                return float(fields["avg10"])
            except (KeyError, ValueError):
                return None
    return None


def oom_kills(*, root: Path = ROOT) -> int | None:
    """How often the kernel has killed for want of memory in this process's own group; None where it does not tell."""
    for folder in group_folders(root, controller="memory"):
        for file in ("memory.events", "memory.oom_control"):
            count = field(folder / file, "oom_kill")
            if count is not None:
                return count
    return None


class Process(msgspec.Struct):
    """Reads one process's memory and CPU time. Open files, so that a look costs microseconds; close it."""

    pid: int
    _statm: int
    _stat: int

    @classmethod
    def open(cls, pid: int) -> Process | None:
        """None if there is no such process."""
        opened = []
        try:
            for name in ("statm", "stat"):
                opened.append(os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            for fd in opened:
                os.close(fd)
            return None
        return cls(pid, *opened)

    def close(self) -> None:
        os.close(self._statm)
        os.close(self._stat)

    def resident(self) -> int:
        """Bytes of memory that it sees, shared ones too: never less than `own`. 0 if it is gone."""
        try:
            return int(os.pread(self._statm, 256, 0).split()[1]) * _PAGE
        except (OSError, IndexError):
            return 0

    def own(self) -> int:
        """Bytes that would be free without it (USS). The kernel walks its pages for this: 1 ms for each 100 MiB or so.
        0 if it is gone."""
        text = read(Path(f"/proc/{self.pid}/smaps_rollup"))
        if not text:
            return 0
        kib = 0
        for line in text.splitlines():
            if line.startswith(("Private_Clean:", "Private_Dirty:", "Private_Hugetlb:")):
                kib += int(line.split()[1])
        return kib << 10

    def cpu_s(self) -> float:
        """Seconds of CPU time that it has used, with the children that it waited for."""
        try:
            fields = os.pread(self._stat, 1024, 0).rpartition(b")")[2].split()
            return sum(int(ticks) for ticks in fields[11:15]) / _TICKS
        except (OSError, IndexError):
            return 0.0


_TICKS = os.sysconf("SC_CLK_TCK")
