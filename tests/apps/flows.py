"""A native application for tests of workflows; `tests.apps.stock_flows` has tasks of the same names for Celery."""

from __future__ import annotations

import os
import signal
from typing import Any

import msgspec

from fastq import FastQ, Handle, chain
from fastq.app.running.follow import Follow
from fastq.app.task import BaseTask
from tests.apps.ledger import ledger

app = FastQ(
    "flows",
    broker=os.environ.get("FASTQ_TEST_BROKER", "redis://127.0.0.1:6379/0"),
    backend=os.environ.get("FASTQ_TEST_BACKEND"),
    **msgspec.json.decode(os.environ.get("FASTQ_TEST_SETTINGS", "{}")),
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


@app.task(name="f.note")
def note(token: str) -> str:
    ledger().write("note", token)
    return token


@app.task(name="f.note_all")
def note_all(values: list[Any], token: str) -> list[Any]:
    ledger().write("body", token)
    return values


@app.task(name="f.hears")
def hears(request: Any, error: BaseException, traceback: str | None) -> None:
    ledger().write("heard", f"{request.id}:{type(error).__name__}")


@app.task(name="f.told")
def told(task_id: str) -> str:
    ledger().write("told", task_id)
    return task_id


@app.task(name="f.lineage", bind=True)
def lineage(self: BaseTask[Any, Any], *_: Any) -> list[str | None]:
    return [self.request.parent_id, self.request.root_id]


@app.task(name="f.parent", bind=True)
def parent(self: BaseTask[Any, Any]) -> list[str]:
    one = add.delay(1, 2)
    many: Handle[Any] = chain(add.s(1, 1), add.s(2)).delay()
    return [one.id, many.id]


@app.task(name="f.works", bind=True)
def works(self: BaseTask[Any, Any], token: str) -> int:
    stored = sum(self.progress(turn / 1000, f"turn {turn}") for turn in range(100))
    ledger().write("progress", token)
    ledger().pass_gate(token)
    assert self.progress(1.0)
    return stored


@app.task(name="f.lingers")
def lingers(token: str) -> int:
    ledger().write("start", token)
    try:
        ledger().pass_gate(token)
    finally:
        ledger().pass_gate(f"{token}-end")
    return 1


@app.task(name="f.waits_late", acks_late=True)
def waits_late(token: str) -> int:
    ledger().write("late", token)
    ledger().pass_gate(token)
    return 1


@app.task(name="f.dies", acks_late=True, reject_on_worker_lost=True)
def dies(token: str, step: str) -> str:
    """Has its process killed in what follows its first attempt: "before count", "after proceed"."""
    ledger().write("run", token)
    if ledger().count("run", token) == 1:
        arm(step)
    return token


@app.task(name="f.dies_early")
def dies_early(token: str, step: str) -> str:
    """The same for a task that is acknowledged when it starts."""
    ledger().write("run", token)
    arm(step)
    return token


def arm(step: str) -> None:
    """Have this process killed right before, or right after, a step of what follows the task."""
    when, _, name = step.partition(" ")
    real = getattr(Follow, name)

    def killed(*args: Any, **kwargs: Any) -> None:
        if when == "after":
            real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(Follow, name, killed)
