"""Options that the application added to Celery's command line: `app.user_options["worker"]` and `["preload"]`.

The engine does not know the application, so it passes on what it does not know itself; here it is read, and what nobody
knows is a usage error.
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from fastq.config import values
from fastq.config.possible import no_such_option
from fastq.config.settings import WorkerOptions
from fastq.errors import OptionError


class UserOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What was given, by the names of the options, with their defaults and variables applied."""

    #: For the worker class and its steps, preload options included, as Celery passes them.
    passed: dict[str, Any] = {}
    preload: dict[str, Any] = {}
    #: Settings at the end of the command line, where the engine could not tell them from values of options.
    overrides: dict[str, str] = {}


def read(app: Any, options: WorkerOptions) -> UserOptions:
    """Read them with click, as Celery does. Raises OptionError for what nobody knows."""
    own = list(app.user_options.get("worker", ()))
    preload = list(app.user_options.get("preload", ()))
    if not (own or preload or options.unknown):
        return UserOptions(overrides=options.overrides)
    found, rest = _parse(app, options, [*own, *preload])
    names = {option.name for option in preload}
    return UserOptions(
        passed=found,
        preload={name: value for name, value in found.items() if name in names},
        overrides={**options.overrides, **dict(map(values.override, rest))},
    )


def announce(app: Any, found: UserOptions) -> None:
    """Send user_preload_options, if the application has preload options: Celery's first signal of all."""
    if not found.preload:
        return
    from celery.bin.worker import worker
    from celery.signals import user_preload_options

    user_preload_options.send(sender=inspect.unwrap(worker.callback), app=app, options=found.preload)


def _parse(app: Any, options: WorkerOptions, params: list[Any]) -> tuple[dict[str, Any], list[str]]:
    import click
    from celery.bin.base import CLIContext

    command = click.Command("worker", params=params, add_help_option=False)
    context = CLIContext(app=app, no_color=options.no_color, workdir=options.workdir, quiet=options.quiet)
    try:
        ctx = command.make_context(
            "worker",
            list(options.unknown),
            auto_envvar_prefix="CELERY_WORKER",
            obj=context,
            allow_extra_args=True,
        )
    except click.NoSuchOption as error:
        raise no_such_option(error.option_name) from error
    except click.ClickException as error:
        raise OptionError(error.format_message()) from error
    return dict(ctx.params), list(ctx.args)
