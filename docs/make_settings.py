"""Make docs/celery/settings.md from the package's settings.data: `make docs`."""

from __future__ import annotations

from pathlib import Path

from fastq.compat.celery.known_settings import STATUS, Row, read

PAGE = Path(__file__).parent / "celery" / "settings.md"

_HEAD = """\
# Celery's settings

What becomes of each setting of Celery 5.7 in a fastq worker. *Same* means that it has the effect it has in
`celery worker`, or that Celery's own code acts on it, in a child. Old names (`CELERYD_CONCURRENCY`), a namespace of
Django's and the settings at the end of a command line are read by Celery itself, so they work as they do there. The
options of the command line are in [moving over](moving-over.md#options-of-celery-worker).

This page is made by `make docs`; a test holds it against the list of the installed Celery.
"""


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
