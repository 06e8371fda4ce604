"""Be a child that runs the functions of a native application; the compiled way where it is possible."""

from __future__ import annotations

import datetime
import functools
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fastq import _core, log
from fastq.app import signals
from fastq.app.running import context
from fastq.app.running.context import PlainRequest
from fastq.app.running.execute import Ended, Executor, choose, log_success, logger, own_process
from fastq.app.running.hooks import call_hook, finish_hooks
from fastq.app.running.judge import Judge
from fastq.app.running.progress import report
from fastq.app.running.results import Results
from fastq.child.events import Eventer, shown
from fastq.child.letters import Letters
from fastq.errors import MemoryLimitExceeded, SoftTimeLimitExceeded
from fastq.ipc.group import STOPS, Stops
from fastq.results.redis import GUARD
from fastq.wire.kombu_json import encode_text, loads
from fastq.wire.packed import read_arguments

if TYPE_CHECKING:
    from fastq.app.app import FastQ
    from fastq.app.task import BaseTask
    from fastq.program import Door, FlightDoor, FrontDoor, Passenger, Worker


R = TypeVar("R", bound=_core.Runner)


class Child:
    """One child of one application. Everything is made before the first frame, and used by one thread."""

    def __init__(
        self, app: FastQ, *, node: str, number: int, port: FrontDoor, names: list[str], dead_letter: tuple[str, ...]
    ) -> None:
        self.app: FastQ = app
        self.node: str = node
        self.number: int = number
        self.port: FrontDoor = port
        self.names: list[str] = names
        port.know_tasks([name.encode() for name in names])
        app.current_request = context.running_request
        self.results: Results = Results(app)
        self.executor: Executor = Executor(
            app,
            port=port,
            node=node,
            letters=Letters(dead_letter, node=node),
            results=self.results,
            eventer=Eventer(hostname=node, port=port),
        )
        app.report_progress = functools.partial(report, self.executor)
        self.judge: Judge = Judge(self.executor)
        self._stops = Stops(port)
        self._runner: Any = None
        self._crew: Any = None

    # ------------------------------------------------------------------------ beginning and end

    def start(self) -> None:
        """Become the process: its name, its signals, the application's set-up."""
        log.name_process(log.child_name(self.number))
        sys.stdin = open(os.devnull)  # noqa: SIM115  for the rest of the process's life
        for number in STOPS:
            signal.signal(number, self._end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, self._interrupt)
        signals.worker_process_init.send(self.app)

    def stop(self) -> None:
        """Tell the application that this process ends, and let its connections go."""
        finish_hooks()
        signals.worker_process_shutdown.send(self.app)
        self.app.close()

    def _end(self, number: int, _frame: Any) -> None:
        # By an exception, so that `finally` blocks of the task run.
        if self._stops.is_for_me(number):
            raise Ended(128 + number)

    def _interrupt(self, _number: int, _frame: Any) -> None:
        in_plain_task = self._runner is not None and self._runner.interruptible
        if not (self.executor.interruptible or in_plain_task):
            return
        if self.port.soft_limit_hits():
            raise SoftTimeLimitExceeded("the soft time limit is over")
        if self.port.memory_limit_hits():
            raise MemoryLimitExceeded("this process has more memory of its own than --max-memory-hard allows")

    # ------------------------------------------------------------------------ frames

    def run(self, port: Door) -> None:
        """Carry out one started frame."""
        if port.kind == _core.VERDICT:
            self.judge.run(port)
        else:
            self.executor.run(port)

    def runner(self, *, max_tasks: int | None = None, idle_s: float = -1.0) -> Worker:
        """The compiled runner of plain tasks; it leaves to `run` what `_prepare` has no answer for."""
        self._runner = self._make(_core.Runner, max_tasks=max_tasks or 0, idle_s=idle_s)
        found: Worker = self._runner
        return found

    def fly(self, door: FlightDoor) -> Passenger | None:
        """Begin a frame in an event loop."""
        if self._crew is None:
            from fastq.app.running.coroutines import Crew

            slow = os.environ.get("FASTQ_FAST") == "0"
            self._crew = Crew(self.executor, None if slow else self._make(_core.LoopRunner))
        found: Passenger | None = self._crew.fly(door)
        return found

    def _make(self, kind: type[R], **more: Any) -> R:
        port: Any = self.port
        pen: Any = self.executor.eventer and self.executor.eventer.pen
        return kind(
            port,
            tasks=len(self.names),
            task_stack=_core.Stack(context.tasks, context.tasks.storage, threading.get_ident()),
            prepare=self._prepare,
            decode=msgspec.json.Decoder().decode,
            loads=loads,
            unpack=read_arguments,
            encode=encode_text,
            quote=json.encoder.encode_basestring_ascii,
            stamp=_stamp,
            on_error=self._on_error,
            hostname=self.node,
            prerun=signals.task_prerun,
            postrun=signals.task_postrun,
            success=signals.task_success,
            key_prefix=self.results.key_prefix,
            expires_s=self.results.expires_s,
            largest=self.results.largest,
            guard=GUARD,
            started=encode_text(own_process(self.node)).encode(),
            pen=pen,
            **more,
        )

    def _prepare(self, index: int) -> Any:
        """The task of this number for the runner; None if its frames are Python's."""
        task = self.app.tasks.get(self.names[index])
        if task is None or task.is_keyed:
            return None
        conf, own = self.app.conf, task.options
        tracked, own_expires = choose(own.track_started, conf.task_track_started), own.result_expires is not None
        if tracked and own_expires:
            return None  # STARTED, too, is stored with the runner's one time to live
        caller = self.executor.caller(task)
        function = caller if caller.checks or caller.prefix else task.function
        task.ignore_result = not self.results.enabled or self.app.ignores_results(task)
        return _core.PlainTask(
            task,
            fun=function,
            request_class=PlainRequest,
            requests=_core.Stack(context.requests, context.requests.storage, threading.get_ident()),
            store=self._store,
            follow=_follows_nothing,
            log_success=self._after_success(task),
            show=shown if own.send_events else None,
            in_ring=self.results.enabled and not own_expires,
            tracked=tracked,
        )

    @staticmethod
    def _after_success(task: BaseTask[Any, Any]) -> Callable[[Any, Any, float], None] | None:
        hook = task.options.on_success
        if hook is None and not logger.isEnabledFor(logging.INFO):
            return None

        def after(request: Any, value: Any, runtime_s: float) -> None:
            log_success(task, request, value, runtime_s)
            call_hook(hook, task, request, value)

        return after

    def _store(self, request: Any, value: Any) -> None:
        """For a result that is too large for the compiled way, or has a time to live of its own."""
        count, data = self.results.commands("SUCCESS", value, request=request)
        if count:
            self.port.store(count, data)

    def _on_error(self, plain: Any, request: Any, _args: Any, _kwargs: Any, late: bool, _stage: int) -> Any:
        return self.executor.failed(self._runner, plain, request, late)


def _follows_nothing(_request: Any, _value: Any, _ignore: bool) -> bool:
    return False


def _stamp(second: int) -> tuple[bytes, bytes]:
    """A moment as results are dated, for a whole second, split where the microseconds stand."""
    text = datetime.datetime.fromtimestamp(second, datetime.timezone.utc).isoformat().encode()
    return text[:19], text[19:]
