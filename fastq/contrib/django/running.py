"""Run tasks of Django's own interface (`django.tasks`, or the package django-tasks) in a worker, and remember of each
what `get_result` asks for.

A record is a hash on the result store, `fastq:django:ID`, that lives as long as results do. It is written before the
message is sent, so that there is no task without one, and changed by the child that runs the task.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fastq import clock

if TYPE_CHECKING:
    import redis

    from fastq.app.app import FastQ

#: The task that carries out all of them. Logs and monitors show each under its own name (`shadow`).
RUN = "fastq.django.run"


class Records:
    """The records of one application. Every method blocks; redis-py's errors are raised."""

    def __init__(self, app: FastQ) -> None:
        self._app = app
        self._client: redis.Redis | None = None

    @property
    def client(self) -> Any:
        """A client of the result store, or of the broker if there is none."""
        if self._client is None:
            from fastq.transport.connect import RESULT_STORE, Endpoint
            from fastq.transport.urls import read_urls

            url = self._app.conf.result_backend or self._app.conf.broker_url
            self._client = Endpoint(read_urls(url), role=RESULT_STORE).client(timeout_s=10.0)
        return self._client

    def write(self, task_id: str, fields: Mapping[str, Any]) -> None:
        """Set fields; their values are written as JSON."""
        key = f"fastq:django:{task_id}"
        pipe = self.client.pipeline(transaction=True)
        pipe.hset(key, mapping={name: json.dumps(value) for name, value in fields.items()})
        if self._app.conf.result_expires:
            pipe.expire(key, int(self._app.conf.result_expires))
        pipe.execute()

    def read(self, task_id: str) -> dict[str, Any]:
        """All fields; {} if there is no record."""
        found = self.client.hgetall(f"fastq:django:{task_id}")
        return {name.decode(): json.loads(value) for name, value in found.items()}

    def forget(self, task_id: str) -> None:
        """Delete the record."""
        self.client.delete(f"fastq:django:{task_id}")


def register(app: FastQ) -> None:
    """Make the application able to run them."""

    def run(task: Any, path: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return carry_out(app, task.request, path, args, kwargs)

    app.task(name=RUN, bind=True)(run)


def carry_out(app: FastQ, request: Any, path: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Run one of Django's tasks in this child, with the signals of Django's interface."""
    from fastq.contrib.django.tasks import TaskBackend, TaskContext, normalize_json, signals, task_of

    task = task_of(path)
    backend = task.get_backend()
    assert isinstance(backend, TaskBackend), f"{path} is of the backend {backend!r}"
    records = backend.records
    known, now = records.read(request.id), _now()
    workers = [*known.get("workers", []), str(request.hostname)]
    started = known.get("started_at") or now
    records.write(
        request.id, {"status": "RUNNING", "started_at": started, "last_attempted_at": now, "workers": workers}
    )
    result = backend.get_result(request.id)
    signals.task_started.send(type(backend), task_result=result)
    context = (TaskContext(task_result=result),) if task.takes_context else ()
    try:
        value = normalize_json(task.call(*context, *args, **kwargs))
        records.write(request.id, {"status": "SUCCESSFUL", "value": value, "finished_at": _now()})
    except BaseException as error:
        text = "".join(traceback.format_exception(error))
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        errors = [*known.get("errors", []), {"exception_class_path": kind, "traceback": text}]
        records.write(request.id, {"status": "FAILED", "errors": errors, "finished_at": _now()})
        signals.task_finished.send(type(backend), task_result=backend.get_result(request.id))
        raise
    signals.task_finished.send(type(backend), task_result=backend.get_result(request.id))
    return value


def _now() -> str:
    return clock.utc_now().isoformat()


def moment(text: str | None) -> datetime | None:
    """A time of a record."""
    return datetime.fromisoformat(text) if text else None
