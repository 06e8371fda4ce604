"""The results files of a folder, in the order in which they were measured: by what stands in them and what git knows.

Not by the files' times, which a clone does not keep.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from bench.measurement import Results, load
from bench.processes import ROOT

#: Told of a file that is left out: one line, which names it.
Leave = Callable[[str], None]


def in_order(paths: Iterable[Path], *, leave: Leave = lambda _line: None) -> list[tuple[Path, Results]]:
    """Those of the files that can be read, the one measured last at the end; `leave` is told of each of the others.

    Measured last: by date; of one day, that of the later commit; and by name where git does not know the commits.
    """
    found = []
    for path in paths:
        try:
            found.append((path, load(path)))
        except (ValueError, OSError) as why:
            leave(f"left out: {why}")
    return sorted(found, key=lambda each: (_date(each[1]), _committed_at(_commit(each[1])), each[0].name))


def _date(results: Results) -> str:
    return str(results.about.get("date", ""))


def _commit(results: Results) -> str:
    return str(results.about.get("commit", "")).removesuffix("-dirty")


def _committed_at(commit: str) -> int:
    """Unix time; 0 if git, or this clone, does not know it."""
    if not commit.isalnum():
        return 0
    try:
        asked = subprocess.run(
            ["git", "-C", str(ROOT), "show", "--no-patch", "--format=%ct", f"{commit}^{{commit}}"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return 0
    return int(asked.stdout) if asked.returncode == 0 else 0
