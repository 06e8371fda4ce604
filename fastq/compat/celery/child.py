"""Be one of Celery's pool processes: its names, signals, initializer and destructor, and the execution of frames."""

from __future__ import annotations

import datetime
import os
import signal
import sys
from typing import Any

from celery import platforms
from celery.app import trace as celery_trace
from celery.concurrency import prefork
from celery.exceptions import SoftTimeLimitExceeded
from kombu.utils.json import dumps

from fastq import clock
from fastq.child.events import Eventer
from fastq.compat.celery.aside import Aside
from fastq.compat.celery.execute import Executor
from fastq.compat.celery.notify import consumer_stand_in
from fastq.compat.celery.receive import Receiver
from fastq.compat.celery.results import ResultRing, goes_through_ring
from fastq.compat.celery.verdict import Judge
from fastq.errors import MemoryLimitExceeded
from fastq.ipc.group import LEFT_TO_THE_ENGINE, Stops
from fastq.program import Door, FrontDoor, Worker

_LEFT_TO_THE_ENGINE = frozenset(number.name for number in LEFT_TO_THE_ENGINE)


class Child:
    """What a forked process needs to run the tasks of one application."""

    def __init__(
        self,
        app: Any,
        *,
        worker: Any,
        number: int,
        port: FrontDoor,
        names: list[str],
        dead_letter: tuple[str, ...] = (),
    ) -> None:
        self.app: Any = app
        self.number: int = number
        self.port: FrontDoor = port
        self.names: list[str] = names
        self.hostname: Any = worker.hostname
        port.know_tasks([name.encode() for name in names])
        self._runner: Any = None
        self.rings: list[ResultRing] = []
        #: True while a soft time limit may interrupt what runs.
        self.interruptible: bool = False
        self.eventer: Eventer = Eventer(hostname=self.hostname, port=port, encode=dumps)
        sender = consumer_stand_in(worker, event_dispatcher=self.eventer)
        receiver = Receiver(app, hostname=self.hostname, sender=sender, eventer=self.eventer)
        self.aside: Aside = Aside(dead_letter, node=worker.hostname)
        self.executor: Executor = Executor(
            app, receiver=receiver, aside=self.aside, soft_time_limit_s=worker.soft_time_limit
        )
        self._stops = Stops(port)
        self.judge_: Judge = Judge(app, receiver=receiver, aside=self.aside)

    # ------------------------------------------------------------------------ beginning and end

    def start(self) -> None:
        """Do what billiard and Celery do in a new pool process, in their order."""
        _become_process(self.number)
        _initialize(self.app, self.hostname)
        self._set_signals()
        self.rings = [ring for backend in _backends(self.app) if (ring := self._ring(backend)) is not None]

    def _set_signals(self) -> None:
        from billiard.common import reset_signals

        # SIGTERM and its kin end the process by SystemExit, so that `finally` blocks of the task run.
        reset_signals(handler=self._end, full=True)
        signal.signal(signal.SIGUSR1, self._on_soft_limit)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _end(self, number: int, frame: Any) -> None:
        if self._stops.is_for_me(number):
            from billiard.common import _shutdown_cleanup

            _shutdown_cleanup(number, frame)

    def _on_soft_limit(self, signum: int, frame: Any) -> None:
        in_plain_task = self._runner is not None and self._runner.interruptible
        if not (self.interruptible or in_plain_task):
            return
        if self.port.soft_limit_hits():
            self.executor.limit_hit = True
            raise SoftTimeLimitExceeded()
        if self.port.memory_limit_hits():
            raise MemoryLimitExceeded("this process has more memory of its own than --max-memory-hard allows")

    def _ring(self, backend: Any) -> ResultRing | None:
        if not goes_through_ring(backend):
            return None
        ring = ResultRing(backend, store=self.port.store)
        ring.install()
        return ring

    def stop(self, code: int) -> None:
        """Send worker_process_shutdown, by whatever stands in for Celery's destructor by now."""
        prefork.process_destructor(os.getpid(), code)

    # ------------------------------------------------------------------------ frames

    def runner(self, *, max_tasks: int | None = None, idle_s: float = -1.0) -> Worker:
        """The compiled runner of plain tasks."""
        from fastq.compat.celery.failure import Failure
        from fastq.compat.celery.fast import FastWay

        failure = Failure(port=self.port, receiver=self.executor.receiver, aside=self.aside, open_rings=self._open)
        way = FastWay(
            self.app,
            hostname=self.hostname,
            names=self.names,
            rings=self.rings,
            failure=failure,
            eventer=self.eventer,
            max_tasks=max_tasks,
        )
        runner = self._runner = way.runner(self.port, idle_s=idle_s)
        failure.runner = runner
        for ring in self.rings:
            ring.runner = runner
        found: Worker = runner
        return found

    def execute(self, port: Door) -> None:
        """Run the task of the current frame."""
        self._open(True)
        self.interruptible = True
        try:
            self.executor.run(port)
        finally:
            self.interruptible = False
            self._open(False)

    def judge(self, port: Door) -> None:
        """Carry out the verdict of the current frame."""
        self._open(True)
        try:
            self.judge_.run(port)
        finally:
            self._open(False)

    def _open(self, is_open: bool, began: float | None = None) -> None:
        """Let results through the ring, or not. `began`: when the current attempt began, if not now."""
        moment = self._moment(clock.now() if began is None else began) if is_open and self.rings else ""
        for ring in self.rings:
            ring.open, ring.began, ring.announced = is_open, moment, None

    def _moment(self, at: float) -> str:
        utc = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
        return utc.astimezone(self.app.timezone).isoformat()


def _backends(app: Any) -> list[Any]:
    """The result stores that the application's tasks use in this thread, each once."""
    found = {id(backend): backend for backend in (app.backend, *(task.backend for task in app.tasks.values()))}
    return list(found.values())


def _become_process(number: int) -> None:
    """Be the process object that logging and Celery ask for names and numbers."""
    from multiprocessing import util

    from billiard import process
    from billiard.common import clear_terminate_handler_fired

    clear_terminate_handler_fired()
    current = process.Process(name=f"ForkPoolWorker-{number}")
    current.index = number - 1
    current.daemon = True
    process._set_current_process(current)
    sys.stdin = open(os.devnull)  # noqa: SIM115  for the rest of the process's life
    util._finalizer_registry.clear()  # type: ignore[attr-defined]
    util._run_after_forkers()  # type: ignore[attr-defined]


def _initialize(app: Any, hostname: str) -> None:
    """Run the pool initializer, looked up as an attribute: agents replace it. Tracers are built at first use.

    Celery builds the tracers of all tasks before it sends worker_process_init. Agents that are set up in a receiver of
    that signal replace `build_tracer` too late for those, so they are built afterwards, and only for tasks that run.
    """
    build, die_with_parent = celery_trace.build_tracer, platforms.set_pdeathsig
    reset = platforms.signals.reset
    initializing = True

    def build_later(*args: Any, **kwargs: Any) -> Any:
        return None if initializing else build(*args, **kwargs)

    celery_trace.build_tracer = build_later
    # This has been done, and billiard's way of doing it loads a C parser into every child.
    platforms.set_pdeathsig = lambda name: None
    # Those that may come to all processes stay with the handlers that the nursery has for them, until we have ours.
    platforms.signals.reset = lambda *names: reset(*(name for name in names if name not in _LEFT_TO_THE_ENGINE))
    try:
        prefork.process_initializer(app, hostname)
    finally:
        initializing = False
        platforms.set_pdeathsig = die_with_parent
        del platforms.signals.reset
        if celery_trace.build_tracer is build_later:
            celery_trace.build_tracer = build
