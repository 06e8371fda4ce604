"""A backend for Django's tasks: of Django 6 (`django.tasks`), or of the package django-tasks for earlier ones.

    TASKS = {"default": {"BACKEND": "fastq.contrib.django.tasks.TaskBackend", "OPTIONS": {"app": "proj.fastq:app"}}}

Names of queues are names of fastq's queues. Priorities from -100 to 100 become the four steps that Redis queues have.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.utils.module_loading import import_string

from fastq import clock
from fastq.contrib.django.running import RUN, Records, moment
from fastq.errors import SettingError

try:
    from django.tasks import signals
    from django.tasks.backends import base
    from django.tasks.base import Task, TaskContext, TaskError, TaskResult, TaskResultStatus
    from django.tasks.exceptions import TaskResultDoesNotExist
    from django.utils.json import normalize_json
except ImportError:
    from django_tasks import signals
    from django_tasks.backends import base
    from django_tasks.base import Task, TaskContext, TaskError, TaskResult, TaskResultStatus
    from django_tasks.exceptions import TaskResultDoesNotExist
    from django_tasks.utils import normalize_json

if TYPE_CHECKING:
    from fastq.app.app import FastQ
    from fastq.untyped import Untyped as BaseTaskBackend
else:
    BaseTaskBackend = base.BaseTaskBackend

__all__ = ["TaskBackend", "TaskContext", "normalize_json", "signals", "task_of"]


class TaskBackend(BaseTaskBackend):
    """Sends Django's tasks as messages of the application that OPTIONS names, and reads what became of them."""

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        if not self.options.get("app"):
            raise SettingError(f'TASKS[{alias!r}] needs OPTIONS = {{"app": "module:attribute"}}, a FastQ application')

    @cached_property
    def app(self) -> FastQ:
        """The application."""
        found: FastQ = import_string(self.options["app"].replace(":", "."))
        return found

    @cached_property
    def records(self) -> Records:
        """What is remembered of each task."""
        return Records(self.app)

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Send a task; blocks until the broker has it.

        Raises InvalidTask (InvalidTaskError of django-tasks), or the producer's errors.
        """
        self.validate_task(task)
        task_id = clock.new_uuid()
        result = self._result(task_id, task, {"args": list(args), "kwargs": dict(kwargs)}, status="READY")
        self.records.write(task_id, _record(task, result))
        options = {"queue": task.queue_name, "priority": step_of(task.priority), "eta": task.run_after}
        try:
            self.app.send_task(
                RUN,
                [task.module_path, result.args, result.kwargs],
                task_id=task_id,
                shadow=task.module_path,
                **{name: value for name, value in options.items() if value is not None},
            )
        except BaseException:
            self.records.forget(task_id)
            raise
        signals.task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """What became of a task. Raises TaskResultDoesNotExist."""
        known = self.records.read(result_id)
        if not known:
            raise TaskResultDoesNotExist(result_id)
        task = task_of(known["task"]).using(
            priority=known["priority"],
            queue_name=known["queue"],
            run_after=moment(known["run_after"]),
            backend=self.alias,
        )
        if known["status"] in ("READY", "RUNNING"):
            self._look_for_loss(result_id, known)
        return self._result(result_id, task, known, status=known["status"])

    def _look_for_loss(self, result_id: str, known: dict[str, Any]) -> None:
        """A child that was killed has written nothing; but the worker has stored that the task failed."""
        outcome = self.app.AsyncResult(result_id).outcome()
        if not outcome.final or outcome.successful:
            return
        known["status"] = "FAILED"
        text = outcome.traceback or f"{outcome.result}"
        known["errors"] = [{"exception_class_path": "fastq.errors.ChildLost", "traceback": text}]

    def _result(self, task_id: str, task: Any, known: dict[str, Any], *, status: str) -> Any:
        result = TaskResult(
            task=task,
            id=task_id,
            status=TaskResultStatus[status],
            enqueued_at=moment(known.get("enqueued_at")) or clock.utc_now(),
            started_at=moment(known.get("started_at")),
            last_attempted_at=moment(known.get("last_attempted_at")),
            finished_at=moment(known.get("finished_at")),
            args=known["args"],
            kwargs=known["kwargs"],
            backend=self.alias,
            errors=[TaskError(**error) for error in known.get("errors", [])],
            worker_ids=known.get("workers", []),
        )
        object.__setattr__(result, "_return_value", known.get("value"))  # as Django's own backends do
        return result


def step_of(priority: int) -> int:
    """The priority of a message, of which 0 is read first, for one of Django's, of which 100 is."""
    return min(9, max(0, round((100 - priority) / 200 * 9)))


def task_of(path: str) -> Any:
    """The task at module.name."""
    found = import_string(path)
    if not isinstance(found, Task):
        raise TypeError(f"{path} is {found!r:.100}, and no task")
    return found


def _record(task: Any, result: Any) -> dict[str, Any]:
    return {
        "task": task.module_path,
        "queue": task.queue_name,
        "priority": task.priority,
        "run_after": task.run_after and task.run_after.isoformat(),
        "status": "READY",
        "enqueued_at": result.enqueued_at.isoformat(),
        "args": result.args,
        "kwargs": result.kwargs,
    }
