"""Make click's options from the table of settings, and print them in groups."""

from __future__ import annotations

from typing import Any

import click

from fastq.config.declare import Setting
from fastq.config.settings import SETTINGS, is_global, is_switch, variables


def global_options() -> list[click.Parameter]:
    """What Celery takes before the sub-command."""
    return [_option(name) for name, setting in SETTINGS.items() if is_global(setting)]


def worker_options() -> list[click.Parameter]:
    """What Celery takes after `worker`."""
    return [_option(name) for name, setting in SETTINGS.items() if not is_global(setting)]


def long_flag(setting: Setting) -> str:
    """The flag that messages call a setting by."""
    return next(flag for flag in setting.flags if flag.startswith("--"))


def setting_options(*names: str) -> list[click.Parameter]:
    """Some of them, for another command."""
    return [_option(name) for name in names]


class GroupedOption(click.Option):
    """An option that knows under which heading it is printed, and that reads no environment: see `gather`."""

    def __init__(self, *, name: str, setting: Setting) -> None:
        facts: dict[str, Any] = {"is_flag": True} if is_switch(setting) else {"type": str}
        if setting.unit:
            facts["metavar"] = f"<{setting.unit}>"
        super().__init__([name, *setting.flags], help=_help(name, setting), **facts)
        self.heading: str = setting.group


class GroupedCommand(click.Command):
    """A command whose options are printed in the groups of the table."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        print_groups(self.get_params(ctx), ctx, formatter)


class OpenCommand(GroupedCommand):
    """A command that leaves options it does not know in `ctx.args`, whole: somebody else may know them."""

    def __init__(self, name: str, **facts: Any) -> None:
        super().__init__(name, **facts)
        self.context_settings.update(allow_extra_args=True, ignore_unknown_options=True)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # click would find our -f in a foreign -Zfast. So it gets to see a name that is nobody's.
        known = {flag for parameter in self.get_params(ctx) for flag in parameter.opts}
        end = args.index("--") if "--" in args else len(args)
        hidden = {f"--\0{place}": word for place, word in enumerate(args[:end]) if _is_foreign(word, known)}
        shown = {place: name for name in hidden for place in [int(name[3:])]}
        super().parse_args(ctx, [shown.get(place, word) for place, word in enumerate(args)])
        ctx.args[:] = [hidden.get(word, word) for word in ctx.args]
        return ctx.args


def _is_foreign(word: str, known: set[str]) -> bool:
    """Whether it is a short option that is not ours, perhaps with its value in the same word."""
    return len(word) > 2 and word[0] == "-" and word[1] != "-" and word[:2] not in known


def print_groups(parameters: list[click.Parameter], ctx: click.Context, formatter: click.HelpFormatter) -> None:
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in parameters:
        record = parameter.get_help_record(ctx)
        if record is not None:
            groups.setdefault(getattr(parameter, "heading", "Other Options"), []).append(record)
    for heading, records in groups.items():
        with formatter.section(heading):
            formatter.write_dl(records)


def _option(name: str) -> click.Parameter:
    return GroupedOption(name=name, setting=SETTINGS[name])


def _help(name: str, setting: Setting) -> str:
    """The sentence of the table, and what is out of the ordinary: the rule for variables is at the end of the help."""
    notes = "  (accepted, not yet effective)" if setting.not_yet else ""
    if is_global(setting):
        notes += f"  [env: {', '.join(variables(name))}]"
    return setting.doc + notes
