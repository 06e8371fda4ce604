"""A pidfile keeps a second worker away, and never keeps the first one away."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fastq.cli import pidfile
from fastq.errors import OptionError, PidfileHeld


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "worker.pid"


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_it_is_there_in_the_block_and_gone_after(file: Path) -> None:
    with pidfile.held(str(file)):
        assert file.read_text() == f"{os.getpid()}\n"
        assert oct(file.stat().st_mode & 0o777) == "0o644"
    assert not file.exists()
    assert list(file.parent.iterdir()) == []


def test_it_goes_also_when_the_worker_fails(file: Path) -> None:
    with pytest.raises(RuntimeError), pidfile.held(str(file)):
        raise RuntimeError
    assert not file.exists()


def test_a_live_process_holds_it(file: Path) -> None:
    file.write_text(f"{os.getppid()}\n")
    with pytest.raises(PidfileHeld, match=f"process {os.getppid()} is alive"), pidfile.held(str(file)):
        pass
    assert file.read_text() == f"{os.getppid()}\n"


@pytest.mark.parametrize("text", ["", "garbage\n", "-4\n", "0\n"])
def test_what_names_no_process_is_replaced(text: str, file: Path) -> None:
    file.write_text(text)
    with pidfile.held(str(file)):
        assert pidfile.recorded_pid(file) == os.getpid()


def test_a_dead_process_does_not_hold_it(file: Path) -> None:
    file.write_text(f"{dead_pid()}\n")
    with pidfile.held(str(file)):
        assert pidfile.recorded_pid(file) == os.getpid()


def test_our_own_number_is_from_before_an_exec(file: Path) -> None:
    file.write_text(f"{os.getpid()}\n")
    with pidfile.held(str(file)):
        pass
    assert not file.exists()


def test_a_number_that_was_used_again_since_does_not_hold_it(file: Path) -> None:
    file.write_text(f"{os.getppid()}\n")
    os.utime(file, (1_000_000, 1_000_000))
    with pidfile.held(str(file)):
        assert pidfile.recorded_pid(file) == os.getpid()


def test_a_file_that_somebody_else_took_over_is_left_alone(file: Path) -> None:
    with pidfile.held(str(file)):
        file.write_text("1\n")
    assert file.read_text() == "1\n"


def test_a_folder_that_is_not_there_is_an_operators_mistake(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be written"), pidfile.held(str(tmp_path / "no" / "such.pid")):
        pass
