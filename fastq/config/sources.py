"""Say where a value came from: a flag, the environment, the application, or nowhere."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from fastq.config.settings import DEFAULTS, SETTINGS, WorkerOptions


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
