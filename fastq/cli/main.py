"""Start `fastq`: find the sub-command, run it, turn errors into one line and an exit code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence

import click

import fastq
from fastq import linux
from fastq.cli.options import global_options, print_groups
from fastq.errors import Bug, FastqError

#: Sub-command, the module that has it as `command`, and its line in the help. Imported when it is asked for.
_COMMANDS: Mapping[str, tuple[str, str]] = {
    "worker": ("fastq.cli.worker", "Start a worker."),
    "reload": ("fastq.cli.reload", "Load the application again in this host's workers."),
    "doctor": ("fastq.cli.doctor", "Read an application: what is misconfigured and, with Celery, what will differ."),
    "check": ("fastq.cli.doctor", "The same as doctor."),
    "beat": ("fastq.cli.beat", "Send the tasks of the application's schedule, each at its time."),
    "schedule": (
        "fastq.cli.schedule",
        "The schedule of a native application: when what is due, and who sends it.",
    ),
    "dlq": ("fastq.cli.dlq", "Look at messages that were put aside; send them again, or drop them."),
    "recover": ("fastq.cli.recover", "Put what dead workers held back on its queues, with no worker running."),
    "ping": ("fastq.cli.ping_help", "Are the workers of this host alive? For probes."),
    "status": ("fastq.cli.status", "What the workers of this host are doing."),
    "top": ("fastq.cli.top", "The same, again every second."),
    "stacks": ("fastq.cli.stacks", "Where each busy child is right now."),
    "metrics": ("fastq.cli.metrics", "Metrics as OpenMetrics text."),
    "bench": ("fastq.cli.bench", "How fast a task is on your own Redis, beside Celery if you like."),
    "queues": ("fastq.cli.queues", "What waits on the broker, who consumes it, what is held."),
}

#: What only asks a broker, and so needs neither Linux nor the core. All others are about the workers of this host.
_ANYWHERE = frozenset(("schedule", "dlq", "queues"))

#: Celery's, which work beside fastq workers as far as those take part.
_CELERY_COMMANDS = frozenset(
    (  # noqa: SIM905  a word list reads better than eighteen lines
        "amqp call control events flower graph inspect list logtool migrate multi purge report result shell upgrade"
    ).split()
)

#: Of a process that ended by an interrupt, as shells count it.
_INTERRUPTED = 130


class Commands(click.Group):
    """The sub-commands, by name. Options of the whole program stand before them or after them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        if name not in _ANYWHERE:
            linux.require(f"fastq {name}")
        command: click.Command = importlib.import_module(_COMMANDS[name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in _CELERY_COMMANDS:
            raise click.UsageError(f"fastq has no {args[0]!r} command yet; run `celery {args[0]}`", ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        print_groups(self.get_params(ctx), ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


def program() -> click.Group:
    """The command `fastq`."""
    group = Commands(
        "fastq",
        params=global_options(),
        invoke_without_command=True,
        callback=click.pass_context(_without_command),
        help="A worker engine for Celery applications, and applications of its own.",
    )
    return click.version_option(fastq.__version__, prog_name="fastq")(group)


def _without_command(ctx: click.Context, **_options: object) -> None:
    """Options before the sub-command are read there, together with those after it."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns its exit code, and raises nothing but what is a bug."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["celery"]:
        # `celery multi` looks for this word in its --cmd, and puts the options of the program behind it.
        del words[0]
    try:
        result = program().main(args=words, prog_name="fastq", standalone_mode=False)
    except click.UsageError as error:
        return _refuse(error)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except click.Abort:
        return _INTERRUPTED
    except Bug:
        raise  # with its traceback: that is what a report needs
    except FastqError as error:
        return _fail(error.message, error.exit_code)
    return result if isinstance(result, int) else 0


def _refuse(error: click.UsageError) -> int:
    command = error.ctx.command_path if error.ctx else "fastq"
    return _fail(f"{error.format_message().rstrip('.')} (see `{command} --help`)", error.exit_code)


def _fail(message: str, exit_code: int) -> int:
    click.echo(f"fastq: {message}", err=True)
    return exit_code
