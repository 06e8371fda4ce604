"""The contract in `_core.pyi` names what is there, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy.stubtest", reason="mypy is installed with fastq[lint]")

#: Classes that stay open for others to build on; stubtest wants a decorator that old type checkers do not know.
OPEN = ("Carried", "LoopRunner", "PlainTask", "Runner", "Stack")


def test_the_contract_is_that_of_the_compiled_module(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text("".join(f"fastq\\._core\\.{name}\n" for name in OPEN))
    command = [sys.executable, "-m", "mypy.stubtest", "fastq._core", "--concise", "--ignore-unused-allowlist"]
    said = subprocess.run(
        [*command, "--allowlist", str(allowed)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MYPY_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
