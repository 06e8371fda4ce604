"""Let a task with `max_running` begin only if it has a slot; without one it waits on the broker and holds up no child.

The slot is asked for when the frame has been started, and given back with the end of the task, in the transaction that
tells the broker of it. Who finds none has put its message aside in the same step, and ends its frame without an end of
the task; who gives a slot back sends the next message to the front of its queue. If this process is killed

    before it has asked     the attempt is lost like any that was started (redelivered, if it is acknowledged late)
    after that              its message waits on the broker; `elsewhere` tells whoever speaks for the dead child
    while it runs           whoever speaks for it gives the slot back; or the lease of its worker ends
"""

from __future__ import annotations

import functools
import logging
import math
from typing import TYPE_CHECKING, Any

from fastq import clock, frames
from fastq.app.running.freeing import ask
from fastq.app.running.message import queue_of
from fastq.app.unique import key_of
from fastq.errors import ArgumentError, BrokerError, BrokerUnavailable, OptionError
from fastq.transport.redis import slots as on_broker
from fastq.transport.redis.keys import Keys

if TYPE_CHECKING:
    from fastq.app.app import FastQ
    from fastq.app.running.context import Request
    from fastq.app.running.execute import Executor
    from fastq.app.task import BaseTask

logger: logging.Logger = logging.getLogger("fastq.task")

#: Seconds for which one line in the log of a child is enough to say that there are those of a task who wait.
TELL_S = 60.0


class Slots:
    """The slots of one application, as one child asks for them. Everything blocks for an answer of the broker."""

    def __init__(self, app: FastQ, *, worker: bytes) -> None:
        self._app, self._worker = app, worker
        #: When it was said that a task has to wait, by its name; at most one entry for each.
        self._told_s: dict[str, float] = {}

    @functools.cached_property
    def _keys(self) -> Keys:
        return Keys.from_options(self._app.conf.broker_transport_options)

    def take(self, executor: Executor, task: BaseTask[Any, Any], request: Request, raw: bytes) -> bool:
        """Whether it may run; if not, its message waits on the broker. As long as that is away, so does this. Raises
        OptionError for a key function that cannot be used, and BrokerError if it is refused for a minute."""
        try:
            at = self._at(executor, task, request)
        except ArgumentError:
            return True  # calling it says so
        header, most = request.message.header, task.options.max_running
        name = queue_of(executor.port, header) or self._app.conf.default_queue
        queue = self._keys.queue_key(name, priority=request.message.properties.get("priority") or 0)
        assert most is not None
        waiting = self._ask(
            at.take(attempt_of(request), most=most, worker=self._worker, queue=self._keys.waiting(queue), message=raw)
        )
        if waiting:
            self._tell(task, request, at.key, waiting)
        return not waiting

    def _ask(self, command: bytes) -> Any:
        while True:
            try:
                return ask(self._app, command)
            except BrokerUnavailable:
                continue  # it has said so; the task has not begun, and is not to fail for that

    def _tell(self, task: BaseTask[Any, Any], request: Request, key: str, waiting: int) -> None:
        """Say that a task waits: at INFO if it is the first of its line, and no line of this task was told of for a
        minute."""
        now_s, level = clock.monotonic(), logging.DEBUG
        if waiting == 1 and now_s - self._told_s.get(task.name, -math.inf) >= TELL_S:
            level, self._told_s[task.name] = logging.INFO, now_s
        of_key = f" of key {key}" if key else ""
        logger.log(
            level,
            "Task %s[%s] waits for a slot: %d%s run, as many as max_running allows; %d wait (see fastq queues)",
            task.name,
            request.id,
            task.options.max_running,
            of_key,
            waiting,
        )

    def free(self, executor: Executor, task: BaseTask[Any, Any], request: Request) -> bytes:
        """What gives its slot back; nothing if it cannot have had one."""
        try:
            return self._at(executor, task, request).free(attempt_of(request), worker=self._worker)
        except (ArgumentError, OptionError):
            return b""

    def elsewhere(self, executor: Executor, task: BaseTask[Any, Any], request: Request) -> bool:
        """Of a task whose child was lost: whether it had not begun, and its message is on the broker."""
        try:
            at = self._at(executor, task, request)
            if ask(self._app, at.waits(attempt_of(request))):
                return True
            holder = ask(self._app, at.holder(attempt_of(request)))
        except (ArgumentError, OptionError, BrokerError):
            return False
        return holder is not None and on_broker.Holding.read(holder).worker != self._worker

    def _at(self, executor: Executor, task: BaseTask[Any, Any], request: Request) -> on_broker.Slots:
        found: on_broker.Slots | None = vars(request).get("slots")
        if found is None:
            found = vars(request)["slots"] = self._find(executor, task, request)
        return found

    def _find(self, executor: Executor, task: BaseTask[Any, Any], request: Request) -> on_broker.Slots:
        by = task.options.max_running_key
        if not by:
            return on_broker.Slots(self._keys, task.name, "")
        args, kwargs = tuple(request.args), request.kwargs
        if callable(by):
            args, kwargs = executor.caller(task).convert(args, kwargs)
        try:
            key = key_of(task, args, kwargs, by=by, option="max_running_key")
        except OptionError:
            raise
        except Exception as error:
            raise OptionError(f"task {task.name}: its max_running_key function has raised {error!r:.200}") from error
        return on_broker.Slots(self._keys, task.name, key)


def admit(executor: Executor, task: BaseTask[Any, Any], request: Request, *, raw: bytes, late: bool) -> bool:
    """Whether it may run now; if not, its frame has been ended."""
    try:
        if executor.slots.take(executor, task, request, raw):
            return True
    except Exception as error:
        executor.conclude(task, request, executor.end_of(task, request, error), raw=raw, late=late)
    else:
        put_aside(executor, raw=raw, late=late)
    return False


def put_aside(executor: Executor, *, raw: bytes, late: bool) -> None:
    """End the frame of a task whose message waits elsewhere: nothing has happened."""
    executor.port.note_end(frames.DISCARDED)
    executor.settle("ack", raw=raw, late=late)


def attempt_of(request: Request) -> str:
    """What has the slot: an attempt of a task, not the next one, which may come before this one has ended."""
    return f"{request.id}:{request.retries}"
