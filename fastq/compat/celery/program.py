"""A Celery application behind the port of `fastq.program`."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from fastq import _core
from fastq.compat.celery import useroptions
from fastq.compat.celery.find import find
from fastq.compat.celery.settle import Settled, settle_in
from fastq.config.settings import WorkerOptions
from fastq.errors import ApplicationError, FastqError
from fastq.importing import last_line, place_of
from fastq.program import Door, FrontDoor, ProgramInfo, Question, Reply, Worker


@contextlib.contextmanager
def _explained(doing: str) -> Iterator[None]:
    """What goes wrong in the application becomes one line, with the traceback as evidence."""
    try:
        yield
    except FastqError:
        raise
    except Exception as error:
        details = traceback.format_exc()
        message = f"{doing} failed: {last_line(error)}{place_of(error)}"
        raise ApplicationError(message, details=details, exit_code=1) from error


class CeleryProgram:
    """Loaded in the nursery, inherited by children."""

    def __init__(self) -> None:
        self.app: Any = None
        self.worker: Any = None
        self._child: Any = None
        self._desk: Any = None
        self._settled = Settled()
        self._names: list[str] = []
        self._dead_letter: tuple[str, ...] = ()

    def load(self, options: WorkerOptions) -> None:
        """Import and set up. Raises ApplicationError, SettingError or OptionError."""
        from fastq.compat.celery.worker import set_up

        if options.log_format == "json":
            from fastq.compat.celery.logs import write_json

            write_json()
        self.app = find(options)
        more = useroptions.read(self.app, options)
        useroptions.announce(self.app, more)
        self._settled, self._dead_letter = settle_in(self.app, options), options.dead_letter
        with _explained("setting the application up"):
            self.worker = set_up(self.app, options, more=more)
            self.app.finalize()

    def start(self) -> None:
        """Start the steps that the application has added to the worker."""
        with _explained("starting the application's steps"):
            self.worker.blueprint.start(self.worker)

    def describe(self, *, numbered: Sequence[str] = ()) -> ProgramInfo:
        """What the engine may know. The order of its tasks is the numbering in frames."""
        from fastq.compat.celery.describe import describe

        info = describe(self.app, self.worker, settled=self._settled, numbered=numbered)
        self._names = [task.name for task in info.tasks]
        return info

    def before_fork(self) -> None:
        """Close what must not be shared between processes, and import what every child needs."""
        import fastq.compat.celery.child
        import fastq.compat.celery.fast  # noqa: F401  imported here, once, for all children
        from fastq.compat.celery.forking import close_connections

        close_connections(self.app)

    def child_init(self, port: FrontDoor, *, number: int) -> None:
        """Become the child `number`, counted from 1."""
        from fastq.compat.celery.child import Child

        self._child = Child(
            self.app,
            worker=self.worker,
            number=number,
            port=port,
            names=self._names,
            dead_letter=self._dead_letter,
        )
        self._child.start()

    def runner(self, *, max_tasks: int | None = None) -> Worker | None:
        """The compiled runner, unless FASTQ_FAST=0."""
        if os.environ.get("FASTQ_FAST") == "0":
            return None
        runner: Worker | None = self._child.runner(max_tasks=max_tasks)
        return runner

    def run(self, port: Door) -> None:
        """Carry out one started frame."""
        child = self._child
        if port.kind == _core.VERDICT:
            child.judge(port)
        else:
            child.execute(port)

    def child_exit(self, code: int) -> None:
        """Send worker_process_shutdown."""
        self._child.stop(code)

    def remember(self, revoked: list[str]) -> None:
        """To the file of --statedb, in Celery's format."""
        from fastq.compat.celery.statedb import write

        write(str(self.worker.statedb), revoked)

    def aside_init(self) -> None:
        """Become the process that answers what the engine cannot."""
        from multiprocessing import util

        from fastq.compat.celery.commands import Desk

        util._run_after_forkers()  # type: ignore[attr-defined]
        self._desk = Desk(self.app, worker=self.worker)

    def answer(self, question: Question) -> Reply:
        """Answer one question; raises nothing."""
        reply: Reply = self._desk.answer(question)
        return reply

    def run_due(self) -> float | None:
        """Call what the application's steps have on the worker's timer."""
        from fastq.compat.celery.steps import run_due

        return run_due(self.worker.timer)

    def run_schedule(self) -> None:
        """Be Celery's embedded beat."""
        from fastq.compat.celery.beat import run

        run(self.app, self.worker)

    def notify(self, signal: str, arguments: dict[str, Any]) -> None:
        """Send a main-process signal with the sender that Celery would use."""
        from fastq.compat.celery.notify import notify

        notify(self.worker, signal, arguments)
