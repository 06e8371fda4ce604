"""Say where a value came from: a flag, the environment, the application, or nowhere."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from fastq.config.settings import DEFAULTS, SETTINGS, WorkerOptions
from fastq.errors import SettingError

Number = TypeVar("Number", int, float)


class Origin(enum.Enum):
    """From the strongest to the weakest."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    APPLICATION = "application"
    DEFAULT = "default"


class Sourced(msgspec.Struct, frozen=True):
    """A value, and who decided it."""

    value: Any
    origin: Origin
    #: For people: `--concurrency`, `environment CELERY_WORKER_CONCURRENCY`, `application's worker_concurrency`.
    where: str


def choose(options: WorkerOptions, name: str, *, application: Any = None) -> Sourced:
    """The value that holds for `name`: what the operator gave, else the application's (None: has none), else ours."""
    value = getattr(options, name)
    if name in options.given and value is not None:
        return Sourced(value, origin_of(options.given[name]), options.given[name])
    if application is not None:
        setting = SETTINGS[name].celery or name
        return Sourced(application, Origin.APPLICATION, f"application's {setting}")
    return Sourced(DEFAULTS[name], Origin.DEFAULT, "default")


def in_environment(variable: str) -> str:
    """How an environment variable is named as a source."""
    return f"environment {variable}"


def origin_of(where: str) -> Origin:
    return Origin.ENVIRONMENT if where.startswith("environment ") else Origin.FLAG


def number_in_environment(variable: str, read: Callable[[str], Number], default: Number) -> Number:
    """The value of one of Celery's variables that no option stands for. Raises SettingError for what is no number."""
    text = os.environ.get(variable)
    if text is None:
        return default
    try:
        return read(text)
    except ValueError as error:
        raise SettingError(f"{variable} is {text!r}; it has to be a number") from error
