"""Memory that is left, as containers and hosts of both cgroup versions show it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastq.config.memory import Process, Room, oom_kills, pressure, room
from tests.trees import write

MIB = 1 << 20

HOST = {"proc/meminfo": "MemTotal:        8192 kB\nMemFree: 1 kB\nMemAvailable:    4096 kB\n"}

NO_LIMIT = "9223372036854771712\n"


TREES = {
    "the host alone": ({}, Room(total=8 * MIB, available=4 * MIB)),
    "v2, no limit": (
        {
            "proc/self/cgroup": "0::/app\n",
            "sys/fs/cgroup/app/memory.max": "max\n",
            "sys/fs/cgroup/app/memory.current": f"{MIB}\n",
        },
        Room(total=8 * MIB, available=4 * MIB),
    ),
    "v2, page cache counts as available": (
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": f"{4 * MIB}\n",
            "sys/fs/cgroup/memory.current": f"{3 * MIB}\n",
            "sys/fs/cgroup/memory.stat": f"anon 5\ninactive_file {MIB}\n",
        },
        Room(total=4 * MIB, available=2 * MIB, bound="cgroup"),
    ),
    "v2, the pod leaves less than the container": (
        {
            "proc/self/cgroup": "0::/pod/app\n",
            "sys/fs/cgroup/pod/app/memory.max": f"{4 * MIB}\n",
            "sys/fs/cgroup/pod/app/memory.current": f"{MIB}\n",
            "sys/fs/cgroup/pod/memory.max": f"{5 * MIB}\n",
            "sys/fs/cgroup/pod/memory.current": f"{4 * MIB}\n",
        },
        Room(total=5 * MIB, available=MIB, bound="cgroup"),
    ),
    "v2, over its limit": (
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": f"{MIB}\n",
            "sys/fs/cgroup/memory.current": f"{2 * MIB}\n",
        },
        Room(total=MIB, available=0, bound="cgroup"),
    ),
    "v1": (
        {
            "proc/self/cgroup": "4:memory:/docker/x\n",
            "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": f"{2 * MIB}\n",
            "sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes": f"{MIB}\n",
            "sys/fs/cgroup/memory/docker/x/memory.stat": f"total_inactive_file {MIB // 2}\n",
        },
        Room(total=2 * MIB, available=MIB + MIB // 2, bound="cgroup"),
    ),
    "v1, no limit": (
        {
            "proc/self/cgroup": "4:memory:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{MIB}\n",
        },
        Room(total=8 * MIB, available=4 * MIB),
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_room(name: str, tmp_path: Path) -> None:
    files, found = TREES[name]
    assert room(root=write(tmp_path, {**HOST, **files})) == found


def test_pressure_is_the_worst_of_host_and_groups(tmp_path: Path) -> None:
    assert pressure(root=tmp_path) is None
    some = "some avg10={} avg60=0.00 avg300=0.00 total=0\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=0\n"
    write(tmp_path, {"proc/pressure/memory": some.format("1.50")})
    assert pressure(root=tmp_path) == 1.5
    write(tmp_path, {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.pressure": some.format("7.25")})
    assert pressure(root=tmp_path) == 7.25
    write(tmp_path, {"sys/fs/cgroup/a/memory.pressure": "nonsense\nsome words\n"})
    assert pressure(root=tmp_path) == 1.5


@pytest.mark.parametrize(
    ("cgroup", "file", "text"),
    [
        ("0::/a\n", "a/memory.events", "low 0\noom 4\noom_kill 3\n"),
        ("4:memory:/a\n", "memory/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
    ],
)
def test_oom_kills(cgroup: str, file: str, text: str, tmp_path: Path) -> None:
    assert oom_kills(root=tmp_path) is None
    write(tmp_path, {"proc/self/cgroup": cgroup, f"sys/fs/cgroup/{file}": text})
    assert oom_kills(root=tmp_path) == 3


def test_this_process_has_memory_and_has_used_time() -> None:
    me = Process.open(os.getpid())
    assert me is not None
    assert 0 < me.own() <= me.resident()
    assert me.cpu_s() > 0
    me.close()


def test_a_process_that_is_gone_has_nothing() -> None:
    assert Process.open(2**22 + 1) is None
