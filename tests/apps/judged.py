"""A native application whose children die when they are told of a failure."""

from __future__ import annotations

import os
import signal
from typing import Any

from fastq import FastQ, signals
from tests.apps.ledger import ledger

app = FastQ(
    "judged",
    broker=os.environ.get("FASTQ_TEST_BROKER", "redis://127.0.0.1:6379/0"),
    backend=os.environ.get("FASTQ_TEST_BACKEND"),
)


@app.task(name="j.dies")
def dies(_times: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="j.dies_late", acks_late=True)
def dies_late(_times: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@signals.task_failure.connect
def told(args: list[Any], task_id: str, **_rest: Any) -> None:
    ledger().write("told", task_id)
    if args[0] < 0:
        ledger().pass_gate(task_id)
    if ledger().count("told", task_id) <= args[0]:
        os.kill(os.getpid(), signal.SIGKILL)
