"""The command `fastq worker`: options, surroundings, then the engine."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from fastq import clock, log
from fastq.cli import daemon, pidfile
from fastq.cli.banner import banner
from fastq.cli.gather import flags_given, gather
from fastq.cli.options import OpenCommand, global_options, worker_options
from fastq.config.nodename import file_name, node_name
from fastq.config.settings import WorkerOptions, not_yet_effective
from fastq.errors import OptionError
from fastq.program import ProgramInfo

logger: logging.Logger = logging.getLogger(__name__)

#: Options that Celery's own code in the nursery and in children reads from the environment, as `celery` passes them on.
_EXPORTS = {
    "broker": "CELERY_BROKER_URL",
    "result_backend": "CELERY_RESULT_BACKEND",
    "loader": "CELERY_LOADER",
    "config": "CELERY_CONFIG_MODULE",
}


def _worker(ctx: click.Context, **_options: object) -> int:
    options = gather(flags_given(ctx), rest=ctx.args)
    options = enter_workdir(options)
    require_application(options)
    export(options)
    remark = daemon.settle_in(options)
    if daemon.wants_to_detach(options):
        daemon.detach(options)
    with held_pidfile(options):
        start_log(options)
        if remark:
            logger.warning("%s", remark)
        report_not_yet(options)
        return start(options)


# Settings such as worker.prefetch_multiplier=1 may stand at the end, with or without a -- before them; and an
# application may have options of its own, which are read when it is loaded.
command: OpenCommand = OpenCommand(
    "worker",
    params=[*worker_options(), *global_options()],
    callback=click.pass_context(_worker),
    help="Start a worker. Settings may follow, as name=value: fastq -A proj worker -- worker.prefetch_multiplier=1",
    epilog="Every option can also come from the environment: --time-limit from FASTQ_WORKER_TIME_LIMIT, else from "
    "CELERY_WORKER_TIME_LIMIT. The command line wins.",
)


def start(options: WorkerOptions) -> int:
    """Hand over to the engine. It is imported now, so that `--help` and mistakes cost nothing."""
    from fastq.worker.main import run

    with contextlib.ExitStack() as files:
        return run(options, announce=functools.partial(_loaded, files))


def _loaded(files: contextlib.ExitStack, options: WorkerOptions, program: ProgramInfo) -> None:
    """The application is known: what it decides about this process, unless an option has, and the banner."""
    from fastq.transport.urls import read_urls
    from fastq.worker.cluster.lease import LEASE_S

    read_urls(program.broker_urls)  # what cannot be read is said instead of the banner, not below it
    if options.pidfile is None and program.pidfile:
        files.enter_context(pidfile.held(file_name(program.pidfile, node=program.node)))
    start_log(options, program)
    announce(options, program, lease_s=LEASE_S)


def announce(options: WorkerOptions, program: ProgramInfo, *, lease_s: float) -> None:
    """Print the banner, unless --quiet, or where every line is to be an event.

    The engine calls this when the application is loaded.
    """
    if options.quiet or options.log_format == "json":
        return
    started = clock.local_now().replace(microsecond=0, tzinfo=None)
    text = banner(options, program, platform=platform.platform(), started=str(started), lease_s=lease_s)
    print(f"\n{text}", file=sys.__stdout__, flush=True)


def enter_workdir(options: WorkerOptions) -> WorkerOptions:
    """Change to --workdir, on which relative names of files and modules then depend."""
    if options.workdir is None:
        return options
    try:
        os.chdir(options.workdir)
    except OSError as error:
        reason = error.strerror or error
        raise OptionError(f"{options.given['workdir']}: cannot change to {options.workdir!r}: {reason}") from error
    return msgspec.structs.replace(options, workdir=os.getcwd())


def require_application(options: WorkerOptions) -> None:
    """Without -A, Celery has an application only where its default loader finds a configuration."""
    configured = options.config or options.loader or os.environ.get("CELERY_CONFIG_MODULE")
    if not (options.app or configured or os.environ.get("CELERY_LOADER") or Path("celeryconfig.py").exists()):
        raise OptionError("no application: name it with -A module, or in FASTQ_APP")


def export(options: WorkerOptions) -> None:
    """Put into the environment what Celery reads from there."""
    for name, variable in _EXPORTS.items():
        value = getattr(options, name)
        if value:
            os.environ[variable] = value
    if options.skip_checks:
        os.environ["CELERY_SKIP_CHECKS"] = "true"


@contextlib.contextmanager
def held_pidfile(options: WorkerOptions) -> Iterator[None]:
    """Own the pidfile, if there is one, as long as the engine runs."""
    if options.pidfile is None:
        yield
        return
    with pidfile.held(file_name(options.pidfile, node=node_name(options.hostname))):
        yield


def start_log(options: WorkerOptions, program: ProgramInfo | None = None) -> None:
    """Open the log; again when the application is known, which may have a file and a format of its own."""
    template = options.logfile or (program.logfile if program else None)
    logfile = template and file_name(template, node=node_name(options.hostname))
    try:
        log.setup(
            options.loglevel,
            logfile=logfile,
            format=program.log_format if program else None,
            datefmt=program.log_datefmt if program else None,
            color=False if options.no_color else program.log_color if program else None,
            as_json=options.log_format == "json",
        )
    except OSError as error:
        where = options.given.get("logfile", "application's worker_logfile")
        raise OptionError(f"{where}: cannot open {logfile}: {error.strerror or error}") from error


def report_not_yet(options: WorkerOptions) -> None:
    """One line per option that was given and does nothing yet: silence would be a promise."""
    for flag, instead in not_yet_effective(options).items():
        logger.warning("option %s is accepted but not yet effective: %s", flag, instead)
