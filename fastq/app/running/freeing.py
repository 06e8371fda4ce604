"""Give the lock of a unique task back when it ends, and keep it for the next attempt.

With the end of the task, in the transaction that tells the broker of it; where results go to another server, by a
command of its own afterwards. Killed in between, the lock is left until it expires.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fastq.app.unique import HEADER, lock_again, lock_key
from fastq.errors import BrokerError, Retry
from fastq.transport.redis.locks import keep, release

if TYPE_CHECKING:
    from fastq.app.app import FastQ
    from fastq.app.running.context import Request
    from fastq.app.running.execute import End
    from fastq.app.task import BaseTask

logger = logging.getLogger("fastq.task")


def command_of(app: FastQ, task: BaseTask[..., object], request: Request, end: End | None, *, late: bool) -> bytes:
    """What is to be said to the broker about the lock of this task, if anything; `end` None: it ended by a verdict."""
    key = request.headers.get(HEADER)
    if not isinstance(key, str):
        return b""
    if end is not None and end.state == "RETRY":
        delay_s = end.error.countdown or 0.0 if isinstance(end.error, Retry) else 0.0
        return keep(lock_again(app, task, key, delay_s=delay_s), request.id)
    if end is not None and end.decision == "requeue" and late:
        return b""
    return release(lock_key(app, task.name, key), request.id)


def say_apart(app: FastQ, command: bytes, *, task_id: str) -> None:
    """By a command of its own; blocks. What goes wrong is logged: the lock expires."""
    try:
        app.producer.carry_out(command)
    except BrokerError as error:
        logger.warning("Task %s: its lock is not given back and will expire: %s", task_id, error)
