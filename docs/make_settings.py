"""Make docs/celery/settings.md from settings.data: `make docs`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "celery"
DATA, PAGE = FOLDER / "settings.data", FOLDER / "settings.md"

STATUS = {"same": "same", "different": "different", "n/a": "not applicable"}

_HEAD = """\
# Celery's settings

What becomes of each setting of Celery 5.7 in a fastq worker. *Same* means that it has the effect it has in
`celery worker`, or that Celery's own code acts on it, in a child. Old names (`CELERYD_CONCURRENCY`), a namespace of
Django's and the settings at the end of a command line are read by Celery itself, so they work as they do there. The
options of the command line are in [moving over](moving-over.md#options-of-celery-worker).

This page is made by `make docs`; a test holds it against the list of the installed Celery.
"""


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


def page() -> str:
    """The whole page: a table for each family of settings."""
    rows = read()
    families = list(dict.fromkeys(map(family, rows)))
    return "\n".join([_HEAD, *(_table(name, [row for row in rows if family(row) == name]) for name in families)])


def family(row: Row) -> str:
    """The first word of the name, for settings that share it with others."""
    first = row.name.partition("_")[0]
    return first if first in _FAMILIES else "general"


_FAMILIES = frozenset(
    [
        "arangodb",
        "azureblockblob",
        "beat",
        "broker",
        "cache",
        "cassandra",
        "control",
        "cosmosdbsql",
        "couchbase",
        "database",
        "elasticsearch",
        "event",
        "gcs",
        "mongodb",
        "redis",
        "s3",
        "security",
        "task",
        "worker",
        "result",
    ]
)


def _table(name: str, rows: list[Row]) -> str:
    lines = [f"| `{row.name}` | {STATUS[row.status]} | {row.remark} |" for row in rows]
    return "\n".join([f"## {name}", "", "| setting | here | remark |", "| --- | --- | --- |", *lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page())
