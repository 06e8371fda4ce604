"""The floor: `floor.c`, a program that makes only the Redis calls of a worker. Compiled here, as the core was.

It shows what no worker can be faster than: as the rate of a backlog worked off, and as the time of a call.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from bench.lab import QUEUE, lab
from bench.measurement import Roles, Sample
from bench.processes import ROOT, as_worker

SOURCE = Path(__file__).with_suffix(".c")
PROGRAM = ROOT / "build" / "floor"

#: Seconds a backlog may take.
LIMIT_S = 120.0


def program() -> Path:
    """Return the compiled program. Raises RuntimeError, with what the compiler says, when it cannot be compiled."""
    if not PROGRAM.exists() or PROGRAM.stat().st_mtime < SOURCE.stat().st_mtime:
        PROGRAM.parent.mkdir(exist_ok=True)
        compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
        command = [compiler, "-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE", "-o", str(PROGRAM), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stderr}")
    return PROGRAM


def command(url: str, *, keep: bool, count: int) -> list[str]:
    """Its command line: `keep` results, or not; end after `count` messages, or never (0)."""
    where = urlsplit(url)
    words = [where.port or 6379, where.path.strip("/") or "0", QUEUE, int(keep), count]
    return [str(program()), *map(str, words)]


def drain(*, task: str, count: int, keep: bool) -> Sample:
    """Work off a backlog of `count` messages."""
    with lab() as place:
        place.fill(task, count)
        before = place.redis_cpu_s()
        done = subprocess.run(
            command(place.url, keep=keep, count=count),
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
            preexec_fn=as_worker,
        )
        if done.returncode:
            raise RuntimeError(f"the floor ended with {done.returncode}: {done.stderr}")
        used = Roles(redis=place.redis_cpu_s() - before)
        results = int(place.client.dbsize())
    messages, seconds, own_s = map(float, done.stdout.split())
    return Sample(
        measure="rate",
        value=messages / seconds,
        unit="tasks/s",
        better="higher",
        lost=max(0, count - results) if keep else 0,
        cpu_us=msgspec.structs.replace(used, engine=own_s).each(count, unit=1e-6),
    )


@contextlib.contextmanager
def answering(url: str) -> Iterator[None]:
    """Answer every message with a result, until the end of the block."""
    worker = subprocess.Popen(command(url, keep=True, count=0), preexec_fn=as_worker)
    try:
        yield
    finally:
        worker.kill()
        worker.wait()
