"""Give back what a task has had with others of its key: the lock of a unique task, or its slot under `max_running`.

With the end of the task, in the transaction that tells the broker of it; where results go to another server, by a
command of its own before. Killed in between, the task has no result, as if its function had been killed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastq import clock
from fastq.app.unique import HEADER, lock_again, lock_key
from fastq.errors import BrokerError, Retry
from fastq.transport.redis.locks import keep, release

if TYPE_CHECKING:
    from fastq.app.app import FastQ
    from fastq.app.running.context import Request
    from fastq.app.running.execute import End, Executor
    from fastq.app.task import BaseTask

logger: logging.Logger = logging.getLogger("fastq.task")

#: Seconds before each further attempt to reach the broker.
PAUSES_S = (0.1, 0.5, 1.0, 2.0, *[5.0] * 10)


def commands_of(
    executor: Executor, task: BaseTask[..., object], request: Request, end: End | None, *, late: bool
) -> list[bytes]:
    """What is to be said to the broker about lock and slot of this task; `end` None: it ended by a verdict."""
    lock = _lock(executor.app, task, request, end, late=late) if task.is_unique else b""
    slot = executor.slots.free(executor, task, request) if task.options.max_running is not None else b""
    return [command for command in (lock, slot) if command]


def _lock(app: FastQ, task: BaseTask[..., object], request: Request, end: End | None, *, late: bool) -> bytes:
    key = request.headers.get(HEADER)
    if not isinstance(key, str):
        return b""
    if end is not None and end.state == "RETRY":
        delay_s = end.error.countdown or 0.0 if isinstance(end.error, Retry) else 0.0
        return keep(lock_again(app, task, key, delay_s=delay_s), request.id)
    if end is not None and end.decision == "requeue" and late:
        return b""
    return release(lock_key(app, task.name, key), request.id)


def say_apart(app: FastQ, commands: Sequence[bytes], *, task_id: str) -> None:
    """By commands of their own; blocks. What goes wrong is logged."""
    try:
        for command in commands:
            ask(app, command)
    except BrokerError as error:
        logger.warning("Task %s: its lock or slot is not given back now: %s", task_id, error)


def ask(app: FastQ, command: bytes) -> Any:
    """The broker's answer to a command that may be repeated; tried again for a minute. Raises BrokerError."""
    for pause_s in PAUSES_S:
        try:
            return app.producer.carry_out(command)
        except BrokerError as error:
            logger.warning("A lock or slot waits for the broker: %s", error)
            clock.sleep(pause_s)
    return app.producer.carry_out(command)
