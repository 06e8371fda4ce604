"""What becomes of each setting of Celery here, from `settings.data`: for `fastq doctor` and the page of the docs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).with_name("settings.data")

#: The status of a setting, and what the page calls it.
STATUS = {"same": "same", "different": "different", "n/a": "not applicable"}


class Row(NamedTuple):
    """One setting."""

    name: str
    status: str
    remark: str


def read() -> list[Row]:
    """The rows of the data file. Raises ValueError for a line that is none."""
    lines = [line for line in DATA.read_text().splitlines() if line and not line.startswith("#")]
    rows = [Row(*(part.strip() for part in line.split("|", 2))) for line in lines]
    wrong = [row for row in rows if row.status not in STATUS]
    if wrong:
        raise ValueError(f"{DATA}: the status must be one of {', '.join(STATUS)}: {wrong[0]}")
    return rows
