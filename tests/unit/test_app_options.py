"""What type checkers know of a task's options is what there is at run time."""

from __future__ import annotations

import typing
from collections.abc import Iterable

from fastq.app.task import TaskArguments, TaskOptions

#: Given as any iterable, kept as a tuple.
LISTS = {"autoretry_for", "dont_autoretry_for"}


def test_the_arguments_of_the_decorator_are_the_options_of_a_task() -> None:
    arguments = typing.get_type_hints(TaskArguments)
    options = typing.get_type_hints(TaskOptions)
    assert arguments.keys() | {"bind"} == options.keys()
    assert {name for name in arguments if arguments[name] != options[name]} == LISTS
    assert all(arguments[name] == Iterable[type[BaseException]] for name in LISTS)
