"""Type checkers see tasks as their functions: what is right passes, and each wrong call is found where it is made."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
GOOD, BAD = HERE / "good.py", HERE / "bad.py"

#: (line, the checker's name for what is wrong)
Found = set[tuple[int, str]]


def expected(checker: str) -> Found:
    """What the comments of `bad.py` say."""
    marks = re.compile(rf"#.*\b{checker}: ([\w-]+)")
    lines = enumerate(BAD.read_text().splitlines(), start=1)
    return {(number, mark[1]) for number, line in lines if (mark := marks.search(line))}


def mypy(path: Path) -> Found:
    """What mypy finds, as strict as it can be."""
    config = ROOT / "pyproject.toml"
    command = ["-m", "mypy", "--config-file", str(config), "--cache-dir", str(ROOT / ".mypy_cache"), str(path)]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.findall(rf"{path.name}:(\d+): error: .*\[([\w-]+)\]", done.stdout)
    return {(int(line), code) for line, code in found}


@pytest.fixture(scope="module")
def pyright() -> str:
    """The command, from the environment of `make typing` or from PATH."""
    found = shutil.which("pyright", path=f"{ROOT / 'build' / 'typing' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip("pyright is not installed: make typing")
    return found


def check(pyright: str, path: Path) -> Found:
    """What pyright finds, strict."""
    command = [pyright, "--outputjson", "--pythonpath", sys.executable, "--pythonversion", "3.10", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    diagnostics = json.loads(done.stdout)["generalDiagnostics"]
    return {
        (one["range"]["start"]["line"] + 1, one.get("rule", one["message"]))
        for one in diagnostics
        if one["severity"] == "error"
    }


def test_mypy_accepts_what_is_right() -> None:
    assert mypy(GOOD) == set()


def test_mypy_refuses_what_is_wrong() -> None:
    assert mypy(BAD) == expected("mypy")


def test_pyright_accepts_what_is_right(pyright: str) -> None:
    assert check(pyright, GOOD) == set()


def test_pyright_refuses_what_is_wrong(pyright: str) -> None:
    assert check(pyright, BAD) == expected("pyright")
