"""The command `fastq beat`: the schedule of an application, apart from its workers.

Of a Celery application it is Celery's own beat with all its options: schedule files, scheduler classes of others, and
their settings go on working. Of a native one it is the process that each worker has, alone; there may be several.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from fastq.cli.gather import flags_given, gather
from fastq.cli.options import setting_options
from fastq.cli.worker import enter_workdir, export, held_pidfile, require_application, start_log
from fastq.config.nodename import node_name
from fastq.config.settings import WorkerOptions
from fastq.errors import ApplicationError

if TYPE_CHECKING:
    from fastq.app.app import FastQ


class Handed(click.Command):
    """A command whose words are all somebody else's, --help included."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return ctx.args


def _beat(ctx: click.Context) -> int:
    options = enter_workdir(gather(flags_given(ctx)))
    if "--help" not in ctx.args:
        require_application(options)
    export(options)
    from fastq.app.find import find_native

    app = find_native(options.app)
    if app is None and importlib.util.find_spec("celery") is not None:
        return run(options, ctx.args)
    return run_native(app, ctx)


command: Handed = Handed("beat", callback=click.pass_context(_beat))


def run(options: WorkerOptions, words: list[str]) -> int:
    """Run Celery's command in this process, until it ends. Raises ApplicationError if there is no application."""
    from fastq.compat.celery.find import find

    if options.app:
        find(options)  # says what is wrong with it in one line
    # Celery shows these words as the process's title, and looks at them for `manage.py`.
    sys.argv[1:] = [*_global_words(options), "beat", *words]
    from celery.bin.celery import celery

    answer: Any = celery.main(args=sys.argv[1:], prog_name="fastq", standalone_mode=False, auto_envvar_prefix="CELERY")
    return answer if isinstance(answer, int) else 0


def _global_words(options: WorkerOptions) -> list[str]:
    """What Celery does not read from the environment."""
    words = ["-A", options.app] if options.app else []
    return words + ["--no-color"] * options.no_color + ["--quiet"] * options.quiet


# ---------------------------------------------------------------------------- a native application


def run_native(app: FastQ | None, ctx: click.Context) -> int:
    """Run the schedule in this process, until a signal ends it. Raises ScheduleError and others of a wrong setting.

    Without an application there is only help, and without Celery it is this command's.
    """

    def callback(inner: click.Context, **_options: object) -> int:
        if app is None:
            raise ApplicationError("no native application: name it with -A module, or pip install 'fastq[celery]'")
        options = gather(flags_given(inner))
        with held_pidfile(options):
            _prepare(app, options)
            from fastq.app import beat

            beat.run(app, node=node_name(options.hostname))
        return 0

    parsed = click.Command(
        "beat",
        callback=click.pass_context(callback),
        params=setting_options("loglevel", "logfile", "pidfile", "hostname", "log_format"),
        help="Send the tasks of the application's schedule, each at its time. Several may run; one of them sends.",
    )
    answer: Any = parsed.main(args=ctx.args, prog_name="beat", standalone_mode=False, parent=ctx.parent)
    return answer if isinstance(answer, int) else 0


def _prepare(app: FastQ, options: WorkerOptions) -> None:
    from fastq.app.find import import_tasks

    given = {} if "loglevel" in options.given else {"loglevel": "INFO"}  # what is sent is what one wants to see
    start_log(msgspec.structs.replace(options, **given))
    if options.broker:
        app.conf.update({"broker_url": options.broker}, where="the command line")
    import_tasks(app)
