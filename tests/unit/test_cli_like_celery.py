"""Every option of `celery worker` exists here: same flags, same variables."""

from __future__ import annotations

import pytest

from fastq.config.declare import GLOBAL
from fastq.config.settings import SETTINGS, is_switch, variables

pytest.importorskip("celery")

from celery.bin.celery import celery as celery_program
from celery.bin.worker import worker as celery_worker


def options_of(command: object) -> dict[str, tuple[frozenset[str], bool, str | None]]:
    """By Celery's name of an option: its flags, whether it is a switch, and its own variable."""
    parameters = command.params  # type: ignore[attr-defined]
    return {each.name: (frozenset(each.opts), each.is_flag, each.envvar) for each in parameters}


WORKER = options_of(celery_worker)
GLOBALS = {name: option for name, option in options_of(celery_program).items() if name != "version"}


@pytest.mark.parametrize("name", [*WORKER, *GLOBALS])
def test_flags_are_celerys(name: str) -> None:
    flags, switch, _ = {**WORKER, **GLOBALS}[name]
    (ours,) = [setting for setting in SETTINGS.values() if flags & set(setting.flags)]
    assert set(ours.flags) == flags
    assert is_switch(ours) == switch


@pytest.mark.parametrize("name", WORKER)
def test_variables_of_the_worker_are_celerys(name: str) -> None:
    flags = WORKER[name][0]
    (ours,) = [each for each, setting in SETTINGS.items() if flags & set(setting.flags)]
    assert f"CELERY_WORKER_{name.upper()}" in variables(ours)


@pytest.mark.parametrize("name", GLOBALS)
def test_global_variables_are_celerys(name: str) -> None:
    flags, _, variable = GLOBALS[name]
    (ours,) = [each for each, setting in SETTINGS.items() if flags & set(setting.flags)]
    assert SETTINGS[ours].group == GLOBAL
    assert {f"CELERY_{name.upper()}", *([variable] if variable else [])} <= set(variables(ours))


#: fastq's own. A flag of Celery's is never given another meaning, so each is looked at when it is added.
OWN = {
    "--control-timeout",
    "--dead-letter",
    "--http",
    "--log-format",
    "--max-age-per-child",
    "--max-crashes",
    "--coroutines",
    "--without-schedule",
    "--max-memory-hard",
    "--reload",
    "--shutdown-timeout",
}


def test_options_that_celery_does_not_have_are_told_by_name() -> None:
    theirs = {flag for flags, _, _ in [*WORKER.values(), *GLOBALS.values()] for flag in flags}
    ours = {flag for setting in SETTINGS.values() for flag in setting.flags}
    assert ours - theirs == OWN
    assert theirs <= ours
