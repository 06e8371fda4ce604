"""Gather the options of a worker: the command line first, then the environment, and remember which it was."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import click
from click.core import ParameterSource

from fastq.cli.options import long_flag
from fastq.config import values
from fastq.config.possible import refuse_impossible
from fastq.config.settings import SETTINGS, WorkerOptions, is_switch, variables
from fastq.config.sources import in_environment
from fastq.errors import OptionError

#: What a switch is in the environment. NO_COLOR and SKIP_CHECKS count as on whatever they hold, by convention.
_ON = frozenset({"1", "true", "t", "yes", "y", "on"})
_OFF = frozenset({"0", "false", "f", "no", "n", "off"})


def gather(
    flags: Mapping[str, Any], *, rest: Iterable[str] = (), environment: Mapping[str, str] | None = None
) -> WorkerOptions:
    """The options, checked. Raises OptionError that names the flag or the variable.

    `rest` are the arguments that are no options of ours: settings, or options of the application among them.
    """
    environ = os.environ if environment is None else environment
    chosen: dict[str, Any] = {}
    given: dict[str, str] = {}
    for name in SETTINGS:
        found = _from_flag(name, flags) or _from_environment(name, environ)
        if found is not None:
            chosen[name], given[name] = found
    overrides, unknown = _split(list(rest))
    options = WorkerOptions(**chosen, overrides=overrides, unknown=unknown, given=given)
    refuse_impossible(options)
    return options


def _split(rest: list[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Settings, if there are only those. With an option of the application among them, whose value is which?"""
    if any(word.startswith("-") for word in rest):
        return {}, tuple(rest)
    return dict(map(values.override, rest)), ()


def flags_given(ctx: click.Context) -> dict[str, Any]:
    """What stands on the command line, before and after the sub-command; after it wins."""
    outer = flags_given(ctx.parent) if ctx.parent else {}
    inner = {name: value for name, value in ctx.params.items() if _on_command_line(ctx, name)}
    return {**outer, **inner}


def _on_command_line(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _from_flag(name: str, flags: Mapping[str, Any]) -> tuple[Any, str] | None:
    if name not in flags:
        return None
    flag = long_flag(SETTINGS[name])
    return _read(name, flags[name], where=flag), flag


def _from_environment(name: str, environ: Mapping[str, str]) -> tuple[Any, str] | None:
    """The first variable that is set and not empty decides. A switch that is off there counts as not given."""
    variable = next((each for each in variables(name) if environ.get(each)), None)
    if variable is None:
        return None
    where = in_environment(variable)
    if not is_switch(SETTINGS[name]):
        return _read(name, environ[variable], where=where), where
    return (True, where) if _switched_on(variable, environ[variable]) else None


def _read(name: str, text: Any, *, where: str) -> Any:
    """The value of one setting. A switch on the command line has its value already."""
    read = SETTINGS[name].read
    if read is None:
        return text
    try:
        return read(text)
    except OptionError as error:
        raise OptionError(f"{where}: {error.message}", option=name, value=text) from None


def _switched_on(variable: str, text: str) -> bool:
    value = text.strip().lower()
    if value in _ON or variable in ("NO_COLOR", "SKIP_CHECKS"):
        return True
    if value in _OFF:
        return False
    raise OptionError(f"{in_environment(variable)}: must be 1 or 0, true or false, yes or no, got {text!r}")
