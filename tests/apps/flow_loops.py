"""A native application of coroutine tasks, for workflows that they share with `tests.apps.flows`.

An application of its own: where there are coroutines a child has many tasks in flight, and who kills it kills them all.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from fastq import FastQ
from fastq.app.task import BaseTask
from tests.apps.ledger import ledger

app = FastQ(
    "loops",
    broker=os.environ.get("FASTQ_TEST_BROKER", "redis://127.0.0.1:6379/0"),
    backend=os.environ.get("FASTQ_TEST_BACKEND"),
    task_default_queue="loops",
)


@app.task(name="l.plus", queue="loops")
async def plus(x: int, y: int = 0) -> int:
    return x + y


@app.task(name="l.brief", result_expires=60)
async def brief() -> int:
    return 1


@app.task(name="l.text")
async def text(size: int) -> str:
    return "x" * size


@app.task(name="l.works", bind=True)
async def works(self: BaseTask[Any, Any], token: str) -> int:
    self.progress(0.5, "half")
    while not (ledger().folder / f"gate-{token}").exists():
        await asyncio.sleep(0.01)
    return 1
