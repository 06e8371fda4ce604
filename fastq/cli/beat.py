"""The command `fastq beat`: the application's schedule, run by Celery's own beat with all its options.

A scheduler is a few sends a minute. There is nothing to gain from writing it again, and much to lose: schedule files,
scheduler classes of others, and their settings go on working because it is Celery's.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from fastq.cli.gather import flags_given, gather
from fastq.cli.worker import enter_workdir, export, require_application
from fastq.config.settings import WorkerOptions


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
    return run(options, ctx.args)


command = Handed("beat", callback=click.pass_context(_beat))


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
