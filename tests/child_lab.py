"""A child's way through frames, in this process: rings in memory, no fork, no Redis, both ways of running a task."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from celery import _state

from fastq import _core
from fastq.child.main import FRAME, PlainRunner, run_frame
from fastq.compat.celery.child import Child, _backends
from tests.core.task_ring import Answer, TaskRing, commands

NODE = "w1@host"


class FakeRedis:
    """What the backend's own connection would have sent, and a table to read from."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.stored: dict[bytes, Any] = {}

    def get(self, key: bytes) -> Any:
        self.sent.append(("GET", key))
        return self.stored.get(key)

    def pipeline(self) -> FakeRedis:
        return self

    def __enter__(self) -> FakeRedis:
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing to close."""

    def setex(self, key: bytes, expires: int, value: Any) -> None:
        self.sent.append(("SETEX", key, expires, value))
        self.stored[key] = value

    def set(self, key: bytes, value: Any, **_options: Any) -> None:
        self.sent.append(("SET", key, value))
        self.stored[key] = value

    def publish(self, key: bytes, value: Any) -> None:
        self.sent.append(("PUBLISH", key, value))

    def execute(self) -> None:
        """Everything has been applied already."""


class ChildLab:
    """One application in one child; `fast=False` takes the full way for everything."""

    def __init__(self, app: Any, *, fast: bool, task_bytes: int = 1 << 18, result_bytes: int = 1 << 18) -> None:
        self.app = app
        self.redis = FakeRedis()
        # As Celery's pool initializer: what tasks send is not waited for.
        _state._set_task_join_will_block(True)
        vars(app.backend)["client"] = self.redis
        self.ring = TaskRing(task_bytes=task_bytes, result_bytes=result_bytes)
        self.eventfd = os.eventfd(0)
        self.port = self.ring.port(self.eventfd)
        self.names = sorted(app.tasks)
        worker = SimpleNamespace(hostname=NODE, app=app, max_tasks_per_child=None, soft_time_limit=None)
        self.child = Child(app, worker=worker, number=1, port=self.port, names=self.names)
        self.child.rings = [ring for backend in _backends(app) if (ring := self.child._ring(backend)) is not None]
        self.runner: Any = self.child.runner(idle_s=0.0) if fast else PlainRunner(self.port, idle_s=0.0)
        self.program: Any = SimpleNamespace(run=self._run_frame)
        #: How many frames the runner left to Python.
        self.left_to_python = 0

    def close(self) -> None:
        """Undo what is global."""
        _state._set_task_join_will_block(False)
        os.close(self.eventfd)

    def put(self, envelope: bytes, *, late: bool = False, **facts: Any) -> None:
        """One task frame; the engine would know the task's number."""
        name = facts.pop("name", None) or _name_of(envelope)
        number = self.names.index(name) if name in self.names else _core.NO_TASK
        self.ring.put(envelope, task=number, flags=_core.LATE if late else 0, **facts)

    def run(self) -> list[Answer]:
        """Work until everything is done; then what the engine would read."""
        while self.ring.peek()["done"] < self.ring.count:
            before = self.ring.peek()["done"]
            if self.runner.work() == FRAME:
                self.left_to_python += 1
                run_frame(self.program, self.port, self.runner)
            assert self.ring.peek()["done"] > before, "no frame was finished"
        return self.ring.answers()

    def _run_frame(self, port: Any) -> None:
        if port.kind == _core.VERDICT:
            self.child.judge(port)
        else:
            self.child.execute(port)


def _name_of(envelope: bytes) -> str | None:
    found = _core.scan(envelope)
    return None if found is None else str(found[0])


def stored(answers: list[Answer]) -> list[list[bytes]]:
    """All commands of some answers."""
    return [words for answer in answers for words in commands(answer.data)] if answers else []
