"""Store how far a task is: state PROGRESS, in the middle of the task, through the result ring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastq import clock
from fastq.app.running.context import current_door
from fastq.app.running.results import moment

if TYPE_CHECKING:
    from fastq.app.running.context import Request
    from fastq.app.running.execute import Executor
    from fastq.app.task import BaseTask

#: Seconds between two that are stored: nobody looks more often, and each is a command for Redis, and a notice.
EVERY_S = 0.2


def report(executor: Executor, task: BaseTask[Any, Any], request: Request, current: float, message: str) -> bool:
    """Store it, unless the last one was just now, or no result is kept; tells whether it was.

    An end is not overwritten. The first, and the end (1.0 or more), are always stored.
    """
    now = clock.now()
    last_s, began = request._progress
    if (now - last_s < EVERY_S and current < 1.0) or executor.ignores(task, request):
        return False
    began = began or moment(now)
    request._progress = (now, began)
    meta = {"current": current, "message": message}
    count, data = executor.results.commands("PROGRESS", meta, request=request, began=began)
    if count:
        (current_door() or executor.port).store(count, data)
    return bool(count)
