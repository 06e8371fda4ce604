"""Everything that can be reached from the public names has a known type: `pyright --verifytypes`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.typing.test_typing import ROOT, pyright

__all__ = ["pyright"]

#: What an application imports. Of the other modules counts what these lead to: a type is only known if its parts are.
PUBLIC = (
    "fastq.app.app",
    "fastq.app.canvas",
    "fastq.app.signals",
    "fastq.app.task",
    "fastq.celery",
    "fastq.embedded",
    "fastq.errors",
    "fastq.producer",
    "fastq.testing",
)


def test_every_public_name_has_a_known_type(pyright: str, tmp_path: Path) -> None:
    # Not `--pythonpath`, which this mode of pyright's does not read. Ours first, so that it finds the files themselves.
    surroundings = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [pyright, "--verifytypes", "fastq", "--ignoreexternal", "--outputjson"],
        cwd=tmp_path,
        env={**os.environ, **surroundings},
        capture_output=True,
        text=True,
        check=False,
    )
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    public = [symbol for symbol in symbols if is_public(symbol["name"])]
    assert len(public) > 200, "pyright has not found the package"
    unknown = {
        symbol["name"]: [one["message"] for one in symbol["diagnostics"]]
        for symbol in public
        if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]
    }
    assert unknown == {}


def is_public(name: str) -> bool:
    """A name of the package itself, or in one of the modules."""
    return name.count(".") == 1 or any(name == module or name.startswith(f"{module}.") for module in PUBLIC)


@pytest.mark.parametrize("name", ["fastq.FastQ", "fastq.producer.Handle.get"])
def test_the_filter_lets_public_names_through(name: str) -> None:
    assert is_public(name)
    assert not is_public("fastq.worker.engine.Engine")
