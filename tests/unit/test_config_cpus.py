"""`--concurrency auto` on control groups of both versions, as containers and hosts show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastq.config.cpus import allowed_cpus, auto_concurrency, cpu_quota
from tests.trees import write

TREES = {
    "no control groups at all": ({}, None),
    "v2, no limit": (
        {"proc/self/cgroup": "0::/app\n", "sys/fs/cgroup/app/cpu.max": "max 100000\n"},
        None,
    ),
    "v2, in a container": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"},
        1.5,
    ),
    "v2, limited higher up": (
        {
            "proc/self/cgroup": "0::/kube/pod/app\n",
            "sys/fs/cgroup/kube/pod/app/cpu.max": "max 100000\n",
            "sys/fs/cgroup/kube/pod/cpu.max": "200000 100000\n",
            "sys/fs/cgroup/kube/cpu.max": "800000 100000\n",
        },
        2.0,
    ),
    "v2, the host's path seen in a container": (
        {"proc/self/cgroup": "0::/../../kube/pod\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"},
        0.5,
    ),
    "v2, the group cannot be read": (
        {"sys/fs/cgroup/cpu.max": "300000 100000\n"},
        3.0,
    ),
    "v1": (
        {
            "proc/self/cgroup": "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n0::/\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n",
        },
        2.5,
    ),
    "v1, mounted as cpu": (
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/docker/x\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        1.0,
    ),
    "v1, no limit": (
        {
            "proc/self/cgroup": "1:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        None,
    ),
    "hybrid, limited in v1": (
        {
            "proc/self/cgroup": "3:cpu:/a\n0::/a\n",
            "sys/fs/cgroup/unified/a/cpu.max": "max 100000\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "400000\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
        },
        4.0,
    ),
    "nonsense": ({"proc/self/cgroup": "what\n", "sys/fs/cgroup/cpu.max": "many few\n"}, None),
}


@pytest.mark.parametrize("name", TREES)
def test_quotas(name: str, tmp_path: Path) -> None:
    files, quota = TREES[name]
    assert cpu_quota(root=write(tmp_path, files)) == quota


@pytest.mark.parametrize(
    ("cpu_max", "allowed", "count"),
    [("max 100000", 8, 8), ("150000 100000", 8, 2), ("800000 100000", 4, 4), ("1000 100000", 4, 1)],
)
def test_auto_is_the_smaller_of_affinity_and_quota_rounded_up(
    cpu_max: str, allowed: int, count: int, tmp_path: Path
) -> None:
    root = write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": cpu_max})
    assert auto_concurrency(root=root, allowed=allowed) == count


def test_on_this_host_there_is_at_least_one() -> None:
    assert 1 <= auto_concurrency() <= allowed_cpus()
