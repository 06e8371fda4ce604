"""The machine that measures: what it is, which versions are on it, and whether it is quiet enough."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import psutil

from bench import cores
from bench.processes import CELERY_TUNING, ROOT
from fastq.embedded import find_server

_PACKAGES = ("celery", "kombu", "billiard", "redis", "hiredis", "msgspec", "Django")

#: Seconds over which others' use of the processors is looked at.
LOOK_S = 1.0

#: Load of the last minute from which on the machine is not called cold. What has just installed or compiled leaves
#: some behind that is over already, so that alone is no reason not to measure.
LOAD = 0.3

#: Share of one core from which on another process is called busy.
BUSY = 0.05

#: Share of processor time that the hypervisor gave to others, from which on it is worth a word.
STEAL = 0.01


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How quiet a machine was before it measured."""

    load: float
    #: "name (pid) 35 %" of each process that used a core noticeably.
    busy: tuple[str, ...]
    steal: float
    governor: str

    def warnings(self) -> list[str]:
        """What may disturb the figures, a sentence each."""
        found = []
        if self.load > LOAD:
            found.append(f"the load of the last minute is {self.load:.2f}: something else runs, or has just ended")
        if self.busy:
            found.append(f"busy besides: {', '.join(self.busy)}")
        if self.steal > STEAL:
            found.append(f"the hypervisor gives {self.steal:.1%} of the processors' time to others")
        if self.governor not in ("", "performance"):
            found.append(f"the frequency governor is {self.governor!r}, not 'performance'")
        return found


def look() -> State:
    """Look at the machine for a second."""
    before, stolen = _used(), Ticks.now()
    time.sleep(LOOK_S)
    busy = sorted(((now - before[key], key) for key, now in _used().items() if key in before), reverse=True)
    return State(
        load=round(os.getloadavg()[0], 2),
        busy=tuple(f"{name} ({pid}) {used / LOOK_S:.0%}" for used, (pid, name) in busy if used / LOOK_S > BUSY),
        steal=round(Ticks.now().steal_since(stolen), 4),
        governor=_governor(),
    )


def _used() -> dict[tuple[int, str], float]:
    """CPU seconds of every process but this one."""
    found = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if process.pid != os.getpid() and times is not None:
            found[process.pid, str(process.info["name"])] = times.user + times.system
    return found


class Ticks(msgspec.Struct, frozen=True):
    """Processor time of the whole machine so far: all of it, and what the hypervisor gave to others."""

    total: int
    stolen: int

    @classmethod
    def now(cls) -> Ticks:
        """Zeros where the kernel does not show it."""
        with contextlib.suppress(OSError, ValueError):
            fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
            return cls(sum(fields), fields[7] if len(fields) > 7 else 0)
        return cls(0, 0)

    def steal_since(self, before: Ticks) -> float:
        """The share that others got in between."""
        return (self.stolen - before.stolen) / max(1, self.total - before.total)


def _governor() -> str:
    with contextlib.suppress(OSError):
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text().strip()
    return ""


def about() -> dict[str, Any]:
    """The machine, the versions as far as they matter, and whether the machine is cold: takes a second."""
    state = look()
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": _output("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "machine": f"{_cpu()}, {len(os.sched_getaffinity(0))} cores, {psutil.virtual_memory().total // 2**30} GiB",
        "pinning": cores.describe(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "redis": _output(find_server(), "--version"),
        "packages": dict(_versions()),
        "celery_tuning": " ".join(CELERY_TUNING),
        "before": msgspec.to_builtins(state),
        "warnings": state.warnings(),
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _versions() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield name, metadata.version(name)


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
