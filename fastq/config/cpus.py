"""Count the CPUs that this process may use: affinity, and the CPU quotas of its control groups, versions 1 and 2."""

from __future__ import annotations

import math
import os
from pathlib import Path

from fastq.config.groups import ROOT, group_folders, read


def allowed_cpus() -> int:
    """CPUs in the scheduler's affinity mask of this process."""
    try:
        return len(os.sched_getaffinity(0)) or 1
    except OSError:
        return os.cpu_count() or 1


def auto_concurrency(*, root: Path = ROOT, allowed: int | None = None) -> int:
    """As many children as CPUs: the allowed ones, but no more than the quota rounded up, at least 1."""
    count = allowed or allowed_cpus()
    quota = cpu_quota(root=root)
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def usable_cpus(*, root: Path = ROOT, allowed: int | None = None) -> float:
    """The same, not rounded: how much CPU time there is in a second."""
    count = float(allowed or allowed_cpus())
    quota = cpu_quota(root=root)
    return count if quota is None else min(count, quota)


def cpu_quota(*, root: Path = ROOT) -> float | None:
    """The smallest quota of this process's groups and all above them, in CPUs; None where nothing limits it.

    `root` is where /proc and /sys are, so that a test can bring its own.
    """
    quotas = [quota for folder in group_folders(root, controller="cpu") if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _quota_of(folder: Path) -> float | None:
    """The quota that one group sets itself, in CPUs."""
    fields = read(folder / "cpu.max").split()
    if len(fields) != 2:
        fields = [read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    try:
        quota_us, period_us = int(fields[0]), int(fields[1])
    except ValueError:  # `max`, and files that are not there
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None
