"""Count the CPUs that this process may use: affinity, and the CPU quotas of its control groups, versions 1 and 2."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


def allowed_cpus() -> int:
    """CPUs in the scheduler's affinity mask of this process."""
    try:
        return len(os.sched_getaffinity(0)) or 1
    except OSError:
        return os.cpu_count() or 1


def auto_concurrency(*, root: Path = _ROOT, allowed: int | None = None) -> int:
    """The children that `--concurrency auto` means: allowed CPUs, but no more than the quota rounded up, at least 1."""
    count = allowed or allowed_cpus()
    quota = cpu_quota(root=root)
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def cpu_quota(*, root: Path = _ROOT) -> float | None:
    """The smallest quota of this process's groups and all above them, in CPUs; None where nothing limits it.

    `root` is where /proc and /sys are, so that a test can bring its own.
    """
    quotas = [quota for folder in _group_folders(root) if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _group_folders(root: Path) -> Iterator[Path]:
    """The folders of the groups that limit this process, from its own up to the mount, of both versions."""
    mounts = root / "sys/fs/cgroup"
    for controllers, path in _memberships(root):
        for mount in _mount_names(controllers):
            # A container sees its host's path in /proc, and itself at the top of the mount: paths that are not there
            # are passed over on the way up.
            yield from (mounts / mount / folder for folder in _upwards(path))


def _memberships(root: Path) -> list[tuple[str, str]]:
    """(controllers, path) of each hierarchy of /proc/self/cgroup; the top of version 2 where it cannot be read."""
    text = _read(root / "proc/self/cgroup")
    lines = [line.split(":", 2) for line in text.splitlines()]
    return [(line[1], line[2]) for line in lines if len(line) == 3] or [("", "/")]


def _mount_names(controllers: str) -> list[str]:
    """Below /sys/fs/cgroup: version 2 at the top or, on hybrid hosts, in `unified`; version 1 by its controllers."""
    if not controllers:
        return ["", "unified"]
    if "cpu" not in controllers.split(","):
        return []
    return list(dict.fromkeys([controllers, "cpu"]))


def _upwards(path: str) -> list[PurePosixPath]:
    """`/a/b` as a/b, a and the top. Parts that point upwards (a group outside of our namespace) do not count."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return [PurePosixPath(*parts[:count]) for count in range(len(parts), -1, -1)]


def _quota_of(folder: Path) -> float | None:
    """The quota that one group sets itself, in CPUs."""
    fields = _read(folder / "cpu.max").split()
    if len(fields) != 2:
        fields = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    try:
        quota_us, period_us = int(fields[0]), int(fields[1])
    except ValueError:  # `max`, and files that are not there
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
