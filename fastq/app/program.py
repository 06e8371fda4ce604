"""A native application behind the port of `fastq.program`: loaded in the nursery, inherited by children."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from typing import Any

from fastq import log
from fastq.app import signals
from fastq.app.app import FastQ
from fastq.app.describe import describe
from fastq.app.find import import_tasks
from fastq.app.running import context
from fastq.app.settings import read_overrides
from fastq.config.nodename import file_name, node_name
from fastq.config.possible import no_such_option
from fastq.config.settings import WorkerOptions
from fastq.errors import ResultsUnavailable
from fastq.program import Door, FlightDoor, FrontDoor, Passenger, ProgramInfo, Question, Reply, Worker

logger: logging.Logger = logging.getLogger(__name__)


class NativeProgram:
    """One FastQ application, as nursery and children use it."""

    def __init__(self, app: FastQ) -> None:
        self.app: FastQ = app
        self.node: str = ""
        self._options = WorkerOptions()
        self._names: list[str] = []
        self._child: Any = None

    # ------------------------------------------------------------------------ in the nursery

    def load(self, options: WorkerOptions) -> None:
        """Apply the options, import the tasks, set logging up. Raises ApplicationError, SettingError or OptionError."""
        self._options, self.node = options, node_name(options.hostname)
        unknown = next((word for word in options.unknown if word.startswith("-")), None)
        if unknown is not None:
            raise no_such_option(unknown)  # only a Celery application can have options of its own
        addresses = {"broker_url": options.broker, "result_backend": options.result_backend}
        self.app.conf.update({k: v for k, v in addresses.items() if v}, where="the command line")
        self.app.conf.update(read_overrides(options.overrides), where="a setting after --", strict=False)
        self.app.conf.include = [*self.app.conf.include, *options.include]
        self._set_up_logging()
        import_tasks(self.app)
        signals.worker_init.send(self.app)

    def _set_up_logging(self) -> None:
        options, conf = self._options, self.app.conf
        if signals.setup_logging.receivers:
            signals.setup_logging.send(self.app, loglevel=options.loglevel, logfile=options.logfile, format="")
            return
        if not conf.worker_hijack_root_logger:
            return
        handler = log.setup(
            options.loglevel,
            logfile=options.logfile and file_name(options.logfile, node=self.node),
            format=conf.worker_log_format or None,
            color=False if options.no_color else None,
        )
        if options.log_format == "json":
            handler.setFormatter(log.JsonFormatter(_current))

    def start(self) -> None:
        """A native application runs nothing beside its tasks here."""

    def describe(self, *, numbered: Sequence[str] = ()) -> ProgramInfo:
        """What the engine may know. The order of its tasks is the numbering in frames."""
        info = describe(self.app, self._options, node=self.node, numbered=numbered)
        self._names = [task.name for task in info.tasks]
        return info

    def before_fork(self) -> None:
        """Let go of connections that importing has made, and import what every child needs."""
        import fastq.app.running.child
        import fastq.producer

        if self.app.has_coroutines:
            import fastq.app.running.coroutines
            import fastq.child.loop  # noqa: F401

        self.app.close()

    def notify(self, signal: str, arguments: dict[str, Any]) -> None:
        """Send a signal of the worker to the application."""
        getattr(signals, signal).send(self.app, **arguments)

    def run_due(self) -> float | None:
        """Nothing is on a timer."""
        return None

    def remember(self, revoked: list[str]) -> None:
        """Nothing: there is no state database."""

    # ------------------------------------------------------------------------ in a child

    def child_init(self, port: FrontDoor, *, number: int) -> None:
        """Become the child `number`, counted from 1."""
        from fastq.app.running.child import Child

        self._child = Child(
            self.app,
            node=self.node,
            number=number,
            port=port,
            names=self._names,
            dead_letter=self._options.dead_letter,
        )
        self._child.start()

    def runner(self, *, max_tasks: int | None = None) -> Worker | None:
        """The compiled runner, unless FASTQ_FAST=0."""
        if os.environ.get("FASTQ_FAST") == "0":
            return None
        found: Worker = self._child.runner(max_tasks=max_tasks)
        return found

    def run(self, port: Door) -> None:
        """Carry out one started frame."""
        self._child.run(port)

    def fly(self, door: FlightDoor) -> Passenger | None:
        """Begin a frame in the event loop of this child."""
        found: Passenger | None = self._child.fly(door)
        return found

    def child_exit(self, code: int) -> None:
        """Tell the application that this child ends."""
        if self._child is not None:
            self._child.stop()

    # ------------------------------------------------------------------------ beside the children

    def aside_init(self) -> None:
        """A process that answers questions needs nothing."""

    def answer(self, question: Question) -> Reply:
        """What revoking stores, and what `fastq.app.desk` knows. Its bodies are JSON, and there are no own commands."""
        if question.kind == "flag":
            return self._flag(json.loads(question.data))
        from fastq.app import desk

        return desk.answer(self.app, question)

    def _flag(self, ids: Sequence[str]) -> Reply:
        """Store REVOKED for those of these tasks of which nothing is stored, so that who waits for them knows now."""
        from fastq.app.running.results import Results

        results, store = Results(self.app), self.app.producer.results
        try:
            for task_id in ids:
                results.flag(task_id, store)
        except ResultsUnavailable as error:
            return Reply(value=json.dumps({"error": str(error)}).encode(), failed=True)
        return Reply(value=b"null")

    def run_schedule(self) -> None:
        """Send what is due in the application, or stand by for it."""
        from fastq.app import beat

        log.name_process("Beat")
        beat.run(self.app, node=self.node)


def _current() -> tuple[str, str] | None:
    """(name, id) of the task that runs here, for records of the log."""
    found = context.current()
    return (found[0].name, found[1].id) if found else None
