"""A native application with a schedule; its tasks write their ids down."""

from __future__ import annotations

import os
from typing import Any

from fastq import FastQ
from tests.apps.ledger import ledger

app = FastQ(
    "scheduled",
    broker=os.environ.get("FASTQ_TEST_BROKER", "redis://127.0.0.1:6379/0"),
    wire=os.environ.get("FASTQ_TEST_WIRE", "celery"),  # type: ignore[arg-type]
    beat_schedule={"of a setting": {"task": "t.note", "schedule": 0.5, "kwargs": {"what": "setting"}}},
)


@app.every(0.2, args=["all"], name="tick", missed="all")
@app.task(name="t.note", bind=True)
def note(self: Any, what: str = "") -> None:
    """One line with the id of the message."""
    ledger().write("ran", f"{what}:{self.request.id}")


if (ledger().folder / "more").exists():  # another version of the application
    app.every(0.2, note, args=["more"], name="more")

app.cron("@yearly", note, args=["yearly"], name="yearly", tz="Europe/Berlin")
