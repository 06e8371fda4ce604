"""Every name of every module has a known type: `pyright --verifytypes` is complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.typing.test_typing import ROOT, pyright

__all__ = ["pyright"]


def test_every_name_has_a_known_type(pyright: str, tmp_path: Path) -> None:
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
    exported = [symbol for symbol in symbols if symbol["isExported"]]
    assert len(exported) > 4000, "pyright has not found the package"
    unknown = {
        symbol["name"]: [one["message"] for one in symbol["diagnostics"]]
        for symbol in exported
        if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]
    }
    assert unknown == {}
