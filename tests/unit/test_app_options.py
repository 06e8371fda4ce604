"""What type checkers know of a task's options is what there is at run time."""

from __future__ import annotations

import typing
from collections.abc import Iterable

import pytest

from fastq.app.task import TaskArguments, TaskOptions, read_options
from fastq.errors import OptionError

#: Given as any iterable, kept as a tuple.
LISTS = {"autoretry_for", "dont_autoretry_for"}


def test_what_a_signal_says_instead_of_an_option_is_named() -> None:
    with pytest.raises(OptionError, match="no option 'before_start'; connect to the signal task_prerun instead"):
        read_options({"before_start": print}, name="t")


def test_the_arguments_of_the_decorator_are_the_options_of_a_task() -> None:
    arguments = typing.get_type_hints(TaskArguments)
    options = typing.get_type_hints(TaskOptions)
    assert arguments.keys() | {"bind"} == options.keys()
    assert {name for name in arguments if arguments[name] != options[name]} == LISTS
    assert all(arguments[name] == Iterable[type[BaseException]] for name in LISTS)
