"""`fastq ping` costs little, and says clearly what it cannot read."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastq.cli.local import for_people
from fastq.cli.ping import ping


def test_it_imports_neither_application_nor_command_line() -> None:
    code = (
        "import sys; from fastq.cli.start import main; main(['ping', '-n', 'nobody@nowhere']); "
        "print([name for name in ('click', 'celery', 'redis', 'fastq.config.settings') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nobody_there_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert ping(["-n", "nobody@nowhere"]) == 1
    assert "no worker nobody@nowhere runs here" in capsys.readouterr().err


def test_a_wrong_option_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert ping(["--radio"]) == 2
    assert "'--radio'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.125, "0.12s"), (59.9, "59s"), (200, "3m20s"), (7500, "2h05m"), (356400, "4d03h")]
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert for_people(seconds) == text
