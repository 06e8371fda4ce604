"""Coroutine tasks behind the engine without native mode: an application of Celery's whose children get an event loop.

A stand-in, so that what is tested is engine, rings and loop: results are kept as Celery keeps them, and nothing else of
a task's life is there. Imported in a nursery, it makes that nursery's program a program with coroutines.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from fastq import _core
from fastq.compat.celery.program import CeleryProgram
from fastq.program import FlightDoor, Passenger, ProgramInfo, Verdict, join_verdict
from tests.apps.build import TaskTable
from tests.apps.ledger import ledger

table = TaskTable()


async def nap(token: str, seconds: float) -> str:
    ledger().write("start", token)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        ledger().write("cancelled", token)
        raise
    ledger().write("end", token)
    return token


async def block(token: str, seconds: float) -> str:
    ledger().write("start", token)
    time.sleep(seconds)
    return token


async def quick(number: int) -> int:
    await asyncio.sleep(0.01)
    return number


async def nothing(number: int) -> int:
    return number


FUNCTIONS: dict[str, Any] = {"nap": nap, "block": block, "quick": quick, "nothing": nothing}
for _name, _function in FUNCTIONS.items():
    table.task(f"t.{_name}")(_function)
    table.task(f"t.{_name}_late", acks_late=True, reject_on_worker_lost=True)(_function)
    table.task(f"t.{_name}_short", time_limit=1)(_function)
table.task("t.quick_quiet", ignore_result=True)(quick)


class Condemned:
    """The door of a task in flight for whoever carries out the verdict on it."""

    def __init__(self, door: FlightDoor, payload: bytes) -> None:
        self._door, self._payload = door, payload

    def __getattr__(self, name: str) -> Any:
        return getattr(self._door, name)

    def payload(self) -> bytes:
        return self._payload


class Carried:
    """One task in flight."""

    lingers = False

    def __init__(self, program: CeleryProgram, door: FlightDoor) -> None:
        self.program, self.door = program, door
        message = json.loads(door.payload())
        self.headers = message["headers"]
        self.args, self.kwargs, _ = json.loads(base64.b64decode(message["body"]))

    async def run(self) -> None:
        name = self.headers["task"].removeprefix("t.").removesuffix("_late").removesuffix("_short")
        value = await FUNCTIONS[name.removesuffix("_quiet")](*self.args, **self.kwargs)
        if name.endswith("_quiet"):
            self.door.finish()
        elif not self.door.over:
            self.door.outcome(_core.ACK, 2, self.stored(value))

    def stored(self, value: Any) -> bytes:
        task_id = self.headers["id"]
        meta = {"status": "SUCCESS", "result": value, "traceback": None, "children": [], "task_id": task_id}
        key, text = f"celery-task-meta-{task_id}".encode(), json.dumps(meta).encode()
        words = b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(text), text)
        return b"*3\r\n$3\r\nSET\r\n" + words + b"*3\r\n$7\r\nPUBLISH\r\n" + words

    def soften(self) -> bool:
        return False

    def condemn(self, verdict: Verdict) -> None:
        condemned: Any = Condemned(self.door, join_verdict(verdict, self.door.payload()))
        self.program._child.judge(condemned)


original = CeleryProgram.describe


def describe(self: CeleryProgram, *, numbered: Sequence[str] = ()) -> ProgramInfo:
    coroutines = int(os.environ.get("FASTQ_TEST_COROUTINES", "100"))
    return msgspec.structs.replace(original(self, numbered=numbered), coroutines=coroutines)


def fly(self: CeleryProgram, door: FlightDoor) -> Passenger | None:
    if door.kind == _core.VERDICT:
        self.run(door)
        return None
    return Carried(self, door)


if "FASTQ_TEST_FOLDER" in os.environ:
    CeleryProgram.describe = describe  # type: ignore[method-assign]
    CeleryProgram.fly = fly  # type: ignore[attr-defined]

app = table.build_from_environment()
