"""An application whose code is changed by its tests: `code.json` in the lab's folder says what it is this time."""

from __future__ import annotations

import json
import os
from pathlib import Path

from celery import Celery

from tests.apps.ledger import Ledger

FOLDER = Path(os.environ["FASTQ_TEST_FOLDER"])
CODE = json.loads((FOLDER / "code.json").read_text())
if CODE.get("broken"):
    raise RuntimeError("this version cannot be imported")

app = Celery("changing", broker=os.environ["FASTQ_TEST_BROKER"], backend=os.environ["FASTQ_TEST_BACKEND"])
app.conf.update(CODE.get("settings", {}))


def version(token: str = "") -> int:
    """Which code ran this."""
    if token:
        Ledger(FOLDER).write("ran", token)
    return int(CODE["version"])


def hold(token: str) -> int:
    """Run until the gate is opened."""
    book = Ledger(FOLDER)
    book.write("start", token)
    book.pass_gate(token)
    return int(CODE["version"])


for name in CODE["tasks"]:
    app.task(name=name, **CODE.get("options", {}))(hold if name == "hold" else version)
