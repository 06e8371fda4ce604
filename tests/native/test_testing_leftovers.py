"""What workers of tests leave behind: nothing at Ctrl-C, and after a kill nothing that the next one does not remove."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastq import FastQ
from fastq.ipc.segment import segment_files
from fastq.testing import leftovers
from tests.eventually import eventually

pytestmark = pytest.mark.fastq_only

PROGRAM = """
import signal, time
from fastq import FastQ

signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal; what runs in the background ignores it

app = FastQ("shop")

@app.task
def add(x: int, y: int) -> int:
    return x + y

with app.testing(children=1) as worker:
    assert add.delay(1, 1).get(10) == 2
    print(worker.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made meanwhile."""
    short = tempfile.mkdtemp(prefix="fqt-")  # the name of a socket has 107 bytes
    monkeypatch.setattr(tempfile, "tempdir", short)
    return Path(short)


@pytest.fixture
def program(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A test that runs a worker, in a process group of its own as in a terminal; and the number of the worker."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
        start_new_session=True,
    )
    assert process.stdout is not None
    with process:
        yield process, int(process.stdout.readline())
        process.kill()


def left(pid: int) -> list[Path]:
    """Shared memory of a worker of a test."""
    return [path for path in segment_files() if path.name.startswith(f"fastq-testing@{pid}-")]


def test_ctrl_c_leaves_nothing_behind(program: tuple[subprocess.Popen[str], int], folder: Path) -> None:
    process, worker = program
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    process.wait(20)
    assert time.monotonic() - began < 4
    assert not left(worker)
    assert not list(folder.glob("fastq-testing-*"))


def test_what_a_killed_test_leaves_is_removed_by_the_next(
    program: tuple[subprocess.Popen[str], int], folder: Path
) -> None:
    process, worker = program
    process.kill()
    process.wait(20)
    found = [*left(worker), *folder.glob("fastq-testing-*")]
    assert len(found) >= 2
    leftovers.remove()
    assert all(path.exists() for path in found)  # they are young: they might be in the making
    for path in found:
        os.utime(path, (0, 0))

    def gone() -> bool:
        leftovers.remove()
        return not any(path.exists() for path in found)

    eventually(gone, within_s=5, saying="what nobody holds any more is removed")


def test_what_lives_is_left_alone(folder: Path) -> None:
    app = FastQ("shop")

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    with app.testing(children=1) as worker:
        for path in [*left(worker.pid), *folder.glob("fastq-testing-*")]:
            os.utime(path, (0, 0))
        leftovers.remove()
        assert add.delay(1, 1).get(5) == 2
