"""Run a worker: nursery first, then the engine; say how it ended."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fastq import clock, dumps
from fastq.config.identity import become
from fastq.config.nodename import node_name
from fastq.config.possible import MOST_CHILDREN
from fastq.config.settings import WorkerOptions
from fastq.errors import FastqError, ProcessLost, SettingError, SurroundingsError
from fastq.ipc.messages import Failed, Ready, Start, ToEngine
from fastq.ipc.segment import SharedSegment
from fastq.monitor.local import RELOAD_SIGNAL
from fastq.program import ProgramInfo
from fastq.worker.lifecycle import Event, State
from fastq.worker.poll import PULSE_S, Errands, Poller, Timers
from fastq.worker.processes.nursery import NurseryProcess, Spawn, start_afresh
from fastq.worker.processes.posix import Signals
from fastq.worker.service import Service
from fastq.worker.watch import FileWatcher, require_watchfiles

if TYPE_CHECKING:
    from fastq.worker.engine import Engine
    from fastq.worker.observe.http import Server
    from fastq.worker.observe.notes import Lengths

logger: logging.Logger = logging.getLogger(__name__)

Announce = Callable[[WorkerOptions, ProgramInfo], None]

#: Slots of the segment: more than children, because a slot is needed on until the broker has confirmed what its child
#: did. The file is sparse; a slot takes memory when it is used first.
MOST_SLOTS = 2 * MOST_CHILDREN

#: Exit codes: a second INT is Celery's way of saying that it was stopped by force.
OK, FAILED, INTERRUPTED = 0, 1, 1


def run(options: WorkerOptions, *, announce: Announce | None = None) -> int:
    """Run a worker until it is stopped. Returns its exit code; raises FastqError if it cannot start.

    `announce` is called when the application is loaded, before the broker is asked. Blocks.
    """
    worker = Worker(options, announce=announce or (lambda _options, _program: None))
    try:
        code = worker.run()
    finally:
        worker.close()
    if worker.restart:
        worker.service.restore()
        os.execv(sys.executable, sys.orig_argv[:1] + sys.orig_argv[1:])
    return code


class Worker:
    """The main process: what is there before the application is known, and after it is gone."""

    def __init__(self, options: WorkerOptions, *, announce: Announce, spawn: Spawn = start_afresh) -> None:
        self.options: WorkerOptions = options
        self._announce = announce
        self._spawn = spawn
        self.restart: bool = False
        self._engine: Engine | None = None
        self._program: ProgramInfo | None = None
        self._failed: Failed | None = None
        self._interrupts = 0
        self._stopped_early = False
        self._code = OK
        self.name: str = f"{node_name(options.hostname)}-{clock.random_hex(8)}"
        self.poller: Poller = Poller()
        self.timers: Timers = Timers()
        self.errands: Errands = Errands(self.poller)
        self.service: Service = Service(self.timers)
        self.eventfd: int = os.eventfd(0, os.EFD_NONBLOCK)
        self.poller.watch(self.eventfd, lambda _events: _drain(self.eventfd))
        self.segment: SharedSegment | None = None
        self.nursery: NurseryProcess | None = None
        self._watcher: FileWatcher | None = None
        self._server: Server | None = None
        self._lengths: Lengths | None = None
        self.signals: Signals = Signals(
            self.poller,
            numbers=[signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, RELOAD_SIGNAL],
            heard=self._heard,
            act=self._signalled,
        )
        faulthandler.register(signal.SIGUSR1)
        dumps.answer()

    # Starting

    def run(self) -> int:
        if self.options.reload:
            require_watchfiles()
        self._open_up()
        program = self._load()
        if program is None:
            return self._code
        self._settle_in(program)
        self._announce(self.options, program)
        for warning in program.warnings:
            logger.warning("%s", warning)
        self._engine = self._make_engine(program)
        if self._server is not None:
            self._lengths = look_at_lengths(self._engine)
        if self.options.purge:
            self._purge(self._engine)
        if self.options.reload:
            self._watcher = FileWatcher(os.getcwd(), poller=self.poller, changed=self.reload)
        self._engine.run()
        return self._end(self._engine)

    def _settle_in(self, program: ProgramInfo) -> None:
        """Do as the nursery did when it had read the application's settings (`worker_uid`, `worker_umask`)."""
        if program.umask is not None:
            os.umask(program.umask)
        if program.local_zone:
            clock.set_zone(program.local_zone)
        whom = program.identity
        if not whom.is_ours and os.geteuid() == 0:
            assert self.segment is not None
            # Else we could not remove it at the end.
            os.chown(self.segment.path, -1 if whom.uid is None else whom.uid, -1 if whom.gid is None else whom.gid)
        remark = become(whom)
        if remark:
            logger.warning("%s", remark)

    def _make_engine(self, program: ProgramInfo) -> Engine:
        from fastq.worker.engine import Engine

        assert self.segment is not None
        assert self.nursery is not None
        return Engine(
            program,
            options=self.options,
            worker=self.name,
            segment=self.segment,
            nursery=self.nursery,
            poller=self.poller,
            timers=self.timers,
            errands=self.errands,
            start_nursery=self._start_nursery,
            restart=self._restart,
            service=self.service,
        )

    def _open_up(self) -> None:
        """Make what others see of this worker. A wrong address of --http is said before anything else is begun."""
        listener = None
        if self.options.http is not None:
            from fastq.worker.observe.http import listen

            listener = listen(self.options.http)
        self.segment = SharedSegment.create(self.name, slots=MOST_SLOTS)
        self.segment.board.pulse()
        if listener is not None:
            from fastq.worker.observe.http import Server
            from fastq.worker.observe.pages import Pages

            self._server = Server(listener, get=Pages(self.segment).get)

    def _load(self) -> ProgramInfo | None:
        """Have the nursery load the application; None if we were stopped meanwhile."""
        assert self.segment is not None
        self.nursery = self._start_nursery()
        # A third of a start is the import of redis-py: it is done while the nursery, on another core, imports Celery.
        gc.disable()
        import fastq.worker.engine  # noqa: F401

        platform.platform()  # asks the program uname; the banner and events have it from a cache then
        gc.freeze()
        gc.enable()
        while self._program is None and self._failed is None and not self._stopped_early:
            self.segment.board.pulse()
            self.poller.wait(PULSE_S)
        if self._failed is not None:
            raise _as_error(self._failed)
        return self._program

    def _start_nursery(self, tasks: Sequence[str] = ()) -> NurseryProcess:
        """Have the application loaded. `tasks` keep their numbers."""
        assert self.segment is not None
        start = Start(
            options=self.options,
            segment=str(self.segment.path),
            eventfd=self.eventfd,
            worker=self.name,
            tasks=list(tasks),
        )
        self.segment.board.add("nurseries")
        return NurseryProcess(start, poller=self.poller, said=self._said, ended=self._nursery_ended, spawn=self._spawn)

    def _said(self, nursery: NurseryProcess, message: ToEngine) -> None:
        if self._engine is not None:
            if isinstance(message, Ready):
                self._engine.new_program(nursery, message.program)
            else:
                self._engine.said(nursery, message)
        elif isinstance(message, Ready):
            self._program = message.program
        elif isinstance(message, Failed):
            self._failed = message

    def _nursery_ended(self, nursery: NurseryProcess) -> None:
        if self._engine is not None:
            self._engine.nursery_ended(nursery)
        elif self._failed is None and not self._stopped_early:
            code = nursery.process.returncode
            self._failed = Failed(message=f"the process that loads the application ended with code {code}", exit_code=1)

    def _purge(self, engine: Engine) -> None:
        client = engine.endpoint.client(timeout_s=10.0)
        lists = [key.key for key in engine.intake.keys]
        try:
            found = sum(int(client.llen(name)) for name in lists)
            client.delete(*lists)
        except Exception as error:
            raise engine.endpoint.explain(error) from error
        finally:
            client.close()
        logger.warning("purge: Erased %d message%s from the queues.", found, "" if found == 1 else "s")

    # Stopping

    def _heard(self, number: int) -> None:
        # Children that got it, too, wait to see whether it was for all of us.
        if self.segment is not None:
            self.segment.core.hear(number)

    def _signalled(self, number: int) -> None:
        if number == signal.SIGTERM and os.environ.get("REMAP_SIGTERM") == "SIGQUIT":
            number = signal.SIGQUIT
        # On a terminal HUP means that the terminal is gone.
        if number == RELOAD_SIGNAL or (number == signal.SIGHUP and not sys.stdout.isatty()):
            self.reload()
            return
        cold = number == signal.SIGQUIT
        if number == signal.SIGINT:
            self._interrupts += 1
            self._code = INTERRUPTED
            cold = self._interrupts > 1
        self._stop(number, cold=cold)

    def reload(self) -> None:
        """Load the application again, and have it run by new children, one after the other."""
        if self._engine is not None and self._engine.state is State.RUNNING:
            self._engine.reload.begin()
        else:
            logger.warning("Nothing to reload: the worker is starting or stopping.")

    def _restart(self) -> None:
        """Stop, and start again with the same command line in the same process."""
        self.restart = True
        logger.warning("Restarting after this: %s", " ".join(sys.orig_argv))
        self._stop(signal.SIGHUP, cold=False)

    def _stop(self, number: int, *, cold: bool) -> None:
        if self._engine is None:
            self._stopped_early = True
            return
        self._say_shutdown("Cold" if cold else "Warm")
        if self._engine.state is State.RUNNING:
            how = "Cold" if cold else "Warm"
            arguments: dict[str, object] = {"sig": signal.Signals(number).name, "how": how, "exitcode": self._code}
            self._engine.nursery.notify("worker_shutting_down", arguments)
        self._engine.stop(Event.QUIT if cold else Event.TERM)

    def _say_shutdown(self, how: str) -> None:
        """On stderr, whatever the log level is, in Celery's words; unless every line is to be an event."""
        if self.options.log_format == "json":
            logger.warning("worker: %s shutdown (MainProcess)", how)
            return
        sys.stderr.write(f"\nworker: {how} shutdown (MainProcess)\n")
        sys.stderr.flush()

    def _end(self, engine: Engine) -> int:
        if engine.failure is not None:
            logger.critical("%s", engine.failure)
            return engine.failure.exit_code if isinstance(engine.failure, SettingError) else FAILED
        ledger = engine.ledger
        logger.warning(
            "Stopped: %d finished, %d returned to their queues, %d abandoned.",
            ledger.finished,
            engine.given_back,
            engine.abandoned,
        )
        return self._code

    def close(self) -> None:
        """Leave nothing behind; may be called twice."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        elif self.segment is not None:
            if self.nursery is not None:
                self.nursery.kill()
            self.segment.remove()
        if self._server is not None:
            self._server.close()
        if self._lengths is not None:
            self._lengths.close()
        if self._watcher is not None:
            self._watcher.close()
        self.signals.close()
        self.errands.close()
        self.poller.close()


def look_at_lengths(engine: Engine) -> Lengths:
    """Have the queues' lengths looked up from time to time: somebody may ask for them."""
    from fastq.worker.observe.notes import Lengths

    return Lengths(
        engine.segment.board,
        endpoint=engine.endpoint,
        keys=engine.intake.keys,
        is_up=lambda: engine.broker.up,
        timers=engine.timers,
        errands=engine.errands,
    )


def _as_error(failed: Failed) -> FastqError:
    if failed.details:
        logger.debug("%s", failed.details)
    error: FastqError = SurroundingsError(failed.message) if failed.exit_code != 2 else _usage(failed.message)
    return error


def _usage(message: str) -> FastqError:
    from fastq.errors import ApplicationError

    return ApplicationError(message)


def _drain(eventfd: int) -> None:
    try:
        os.eventfd_read(eventfd)
    except BlockingIOError:
        pass


__all__ = ["ProcessLost", "Worker", "run"]
