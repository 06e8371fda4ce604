"""Print what was measured with the machine it was measured on, and keep it as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.line import Line, Sizes

RESULTS = Path(__file__).parent / "results"


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
            f"Load of the machine before: {about['before']['load']}. Celery runs with "
            f"`{about['celery_tuning']}` and the settings of `bench/apps/settings.py`.",
        ]
    )


def keep(lines: Sequence[Line], *, about: dict[str, Any], sizes: Sizes) -> Path:
    """Write the raw figures to `bench/results` and return the path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{about['date']}-{about['commit']}{'' if sizes.name == 'normal' else '-' + sizes.name}.json"
    found = {"about": about, "sizes": sizes, "lines": lines}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    return path
