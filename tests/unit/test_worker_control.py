"""Parts of remote control that need no worker: whom a request is for, figures, and the names of commands."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from celery.utils.debug import humanbytes
from celery.worker.control import Panel

from fastq.worker.cluster.commands.table import COMMANDS
from fastq.worker.cluster.commands.worker import human_bytes, spread
from fastq.worker.cluster.pidbox import Request

#: Commands that Celery registers itself; a test's application may have added others.
OWN = {name: command for name, command in Panel.data.items() if command.__module__ == "celery.worker.control"}


def test_every_command_of_celery_is_there_and_no_other() -> None:
    assert COMMANDS.keys() == OWN.keys()


@pytest.mark.parametrize("name", sorted(OWN))
def test_commands_take_the_arguments_that_celerys_take(name: str) -> None:
    def arguments(command: Any) -> list[tuple[str, bool, Any]]:
        parameters = inspect.signature(command).parameters.values()
        return [
            (p.name, p.default is p.empty, p.kind)
            for p in sorted(parameters, key=lambda p: p.name)
            if p.kind is not p.VAR_KEYWORD
        ]

    def takes_more(command: Any) -> bool:
        return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(command).parameters.values())

    assert arguments(COMMANDS[name]) == arguments(OWN[name])
    assert takes_more(COMMANDS[name]) == takes_more(OWN[name])


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 5000, 39_000_000, 2**30, 3 * 2**40])
def test_sizes_are_written_as_celery_writes_them(size: int) -> None:
    assert human_bytes(size) == humanbytes(size)


def test_shares_of_children_are_those_of_celerys_pool() -> None:
    usual = {"strategy": "fair", "inqueues": {"total": 2, "active": 0}}
    assert spread([0, 0]) == {"total": 0, "avg": "0.00", "all": "", "raw": "", **usual}
    assert spread([3, 1]) == {"total": 4, "avg": "0.50", "all": "0.75, 0.25", "raw": "3, 1", **usual}


@pytest.mark.parametrize(
    ("request_", "is_for"),
    [
        (Request(method="ping"), True),
        (Request(method="ping", destination=[]), True),
        (Request(method="ping", destination=["w@h"]), True),
        (Request(method="ping", destination=["v@h"], pattern="w*", matcher="glob"), False),
        (Request(method="ping", pattern="w@*", matcher="glob"), True),
        (Request(method="ping", pattern="W@*", matcher="glob"), False),
        (Request(method="ping", pattern="@", matcher="pcre"), False),
        (Request(method="ping", pattern=".@", matcher="pcre"), True),
        (Request(method="ping", pattern="x"), True),
    ],
)
def test_a_request_is_for_whom_it_names(request_: Request, is_for: bool) -> None:
    assert request_.is_for("w@h") is is_for
