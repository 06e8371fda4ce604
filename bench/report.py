"""Print what was measured with the machine it was measured on, and keep it as JSON."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import psutil

from bench.line import Line, Sizes
from bench.processes import CELERY_TUNING, ROOT
from fastq.embedded import find_server

RESULTS = Path(__file__).parent / "results"

_PACKAGES = ("celery", "kombu", "billiard", "redis", "hiredis", "msgspec", "Django")


def surroundings() -> dict[str, Any]:
    """The machine and the versions, as far as they matter."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": _output("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "machine": f"{_cpu()}, {len(os.sched_getaffinity(0))} cores, {psutil.virtual_memory().total // 2**30} GiB",
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "redis": _output(find_server(), "--version"),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "celery_tuning": " ".join(CELERY_TUNING),
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def markdown(lines: Sequence[Line], *, about: dict[str, Any], sizes: Sizes) -> str:
    """The table, with what it was measured on below it."""
    marks = {True: "yes", False: "**no**", None: ""}
    rows = [f"| {one.what} | {one.target} | {one.fastq} | {one.celery} | {marks[one.reached]} |" for one in lines]
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    return "\n".join(
        [
            "| | to reach | fastq | Celery | reached |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
            f"{about['date']}, commit {about['commit']}, sizes `{sizes.name}`. {about['machine']}, {about['system']}, "
            f"Python {about['python']}, {packages}; {about['redis']}.",
            f"Load of the machine before: {about['load_before']}. Celery runs with `{about['celery_tuning']}` and the "
            "settings of `bench/apps/settings.py`.",
        ]
    )


def keep(lines: Sequence[Line], *, about: dict[str, Any], sizes: Sizes) -> Path:
    """Write the raw figures to `bench/results` and return the path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{about['date']}-{about['commit']}{'' if sizes.name == 'normal' else '-' + sizes.name}.json"
    found = {"about": about, "sizes": sizes, "lines": lines}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    return path
