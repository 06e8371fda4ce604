"""Read an application without running it: its settings with their origins, and what its tasks ask for."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from fastq.config.settings import SETTINGS, WorkerOptions

#: Beginnings of names that are Celery's: what begins so and is no setting is a mistake.
_PREFIXES = ("accept_", "beat_", "broker_", "control_", "event_", "result_", "task_", "worker_")


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that is not as Celery has it by default, and who says so."""

    name: str
    #: As text, secrets hidden.
    value: str
    origin: str


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """A task as its messages are run. `slow`: why it takes the full way, empty if it takes the compiled one."""

    name: str
    slow: str
    acks_late: bool
    reject_on_worker_lost: bool
    soft_time_limit: float | None
    time_limit: float | None


def origins(app: Any, options: WorkerOptions) -> list[Origin]:
    """Every setting that somebody has set, by name."""
    from celery.app.utils import filter_hidden_settings

    given = {SETTINGS[name].celery: where for name, where in options.given.items() if SETTINGS[name].celery}
    given |= {_with_namespace(name): "the command line, after --" for name in options.overrides}
    shown = filter_hidden_settings({name: app.conf.get(name) for name in _names_set(app)})
    return [
        Origin(name=name, value=_text(value), origin=given.get(name) or _origin(app, name))
        for name, value in sorted(shown.items())
    ]


def _with_namespace(name: str) -> str:
    """A setting on the command line is worker.prefetch_multiplier, or without the first part."""
    full = name.replace(".", "_")
    return full if full.startswith(_PREFIXES) else f"worker_{full}"


def _names_set(app: Any) -> set[str]:
    # The last of the maps has Celery's defaults. Old names are found under the new ones.
    known = _known()
    present = {key for each in app.conf.maps[:-1] for key in each}
    return {known.get(str(key).lower(), str(key)) for key in present if not str(key).startswith("_")} & set(
        known.values()
    )


def _known() -> dict[str, str]:
    """All names that Celery knows a setting by, in lower case, and its present name."""
    from celery.app.defaults import NAMESPACES, flatten

    found: dict[str, str] = {}
    for name, option in flatten(NAMESPACES):
        found[name] = name
        found.update({old.lower().replace("{0}", name): name for old in option.old})
    return found


def _origin(app: Any, name: str) -> str:
    if name in app.conf.changes:
        return "the application's code (app.conf)"
    variables = {"broker_url": "CELERY_BROKER_URL", "result_backend": "CELERY_RESULT_BACKEND"}
    if os.environ.get(variables.get(name, "")):
        return f"environment variable {variables[name]}"
    source = getattr(app, "_config_source", None)
    if isinstance(source, str):
        return f"config_from_object({source!r})"
    return "the application's configuration"


def _text(value: Any) -> str:
    from kombu.utils.url import maybe_sanitize_url

    text = value if isinstance(value, str) else repr(value)
    text = str(maybe_sanitize_url(text)) if "://" in text else text
    return text if len(text) <= 200 else f"{text[:200]}..."


def misspelt(app: Any) -> Iterator[tuple[str, str]]:
    """Names that look like settings and are none, and the setting each may have been meant for ("" if none is near)."""
    known = _known()
    for each in app.conf.maps[:-1]:
        for key in each:
            name = str(key).lower()
            if name in known or name.startswith("_") or not name.startswith(_PREFIXES):
                continue
            near = difflib.get_close_matches(name, known.values(), n=1, cutoff=0.8)
            yield str(key), near[0] if near else ""


def views(app: Any) -> list[TaskView]:
    """The application's own tasks, Celery's built-in ones left out."""
    from fastq.compat.celery.fast import why_not_plain

    found = [(name, task) for name, task in sorted(app.tasks.items()) if not name.startswith("celery.")]
    return [
        TaskView(
            name=name,
            slow=why_not_plain(task, app),
            acks_late=bool(task.acks_late),
            reject_on_worker_lost=bool(task.reject_on_worker_lost),
            soft_time_limit=task.soft_time_limit,
            time_limit=task.time_limit,
        )
        for name, task in found
    ]


def everywhere_slow(app: Any) -> str:
    """Why all tasks take the full way, whatever they are; empty if they need not."""
    from celery import signals
    from celery.app import trace

    from fastq.compat.celery import fast

    if os.environ.get("FASTQ_FAST") == "0":
        return "FASTQ_FAST=0"
    if not fast._tracer_is_celerys():
        module = getattr(trace.build_tracer, "__module__", "somebody")
        return f"{module} has replaced celery.app.trace.build_tracer"
    if not fast._hooks_are_celerys(app):
        return (
            "receivers of task_received" if signals.task_received.receivers else "the loader has its own on_task_init"
        )
    return ""


def receivers() -> Mapping[str, int]:
    """How many receivers each of Celery's task signals has."""
    from celery import signals

    found = {name: signal for name, signal in vars(signals).items() if name.startswith("task_")}
    return Counter({name: len(signal.receivers) for name, signal in found.items() if signal.receivers})
