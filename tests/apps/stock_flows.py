"""Celery's twin of `tests.apps.flows`: the same names, for workers of a mixed fleet and for clients."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

app = Celery(
    "flows",
    broker=os.environ.get("FASTQ_TEST_BROKER", "redis://127.0.0.1:6379/0"),
    backend=os.environ.get("FASTQ_TEST_BACKEND"),
)


@app.task(name="f.add")
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(name="f.total")
def total(numbers: list[Any], more: int = 0) -> int:
    return sum(sum(one) if isinstance(one, list) else one for one in numbers) + more


@app.task(name="f.fail")
def fail(*_: Any) -> None:
    raise LookupError("boom")


@app.task(name="f.lineage", bind=True)
def lineage(self: Any, *_: Any) -> list[str | None]:
    return [self.request.parent_id, self.request.root_id]


# Now, and not in a test: what other tests import is registered with every application that is finalized after that.
app.finalize()
