"""What type checkers know of a task's options is what there is at run time."""

from __future__ import annotations

import os
import subprocess
import sys
import typing
from collections.abc import Iterable
from typing import Any

import pytest

from fastq import FastQ
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


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_retries", "3"),
        ("time_limit", "5"),
        ("soft_time_limit", -1),
        ("rate_limit", "ten"),
        ("priority", 1.5),
        ("queue", 5),
        ("retry_backoff", "yes"),
        ("on_failure", "alert"),
        ("autoretry_for", ("ValueError",)),
    ],
)
def test_an_option_that_means_nothing_is_refused_where_the_task_is_defined(option: str, value: object) -> None:
    with pytest.raises(OptionError, match=f"task t: {option}=.* is to be "):
        read_options({option: value}, name="t")


def test_one_kind_of_errors_needs_no_tuple() -> None:
    assert read_options({"autoretry_for": OSError}, name="t").autoretry_for == (OSError,)


def test_delays_that_double_for_ever_stay_at_their_longest() -> None:
    assert read_options({"retry_backoff": True, "retry_jitter": False}, name="t").retry_delay_s(5000) == 600


@pytest.mark.parametrize(
    "options",
    [
        {"countdown": "3"},
        {"countdown": float("nan")},
        {"countdown": 1e12},
        {"eta": 5},
        {"expires": "soon"},
        {"task_id": 7},
        {"task_id": ""},
        {"priority": "high"},
        {"queue": 5},
        {"time_limit": "5"},
    ],
)
def test_an_option_of_a_send_that_means_nothing_is_refused_by_name(options: dict[str, Any]) -> None:
    producer = FastQ("options", broker="redis://127.0.0.1:1/0").producer
    with pytest.raises(OptionError, match=rf"^{next(iter(options))}=.* is (no|to be) "):
        producer.compose("t", (), {}, **options)


def test_the_key_of_a_set_is_the_same_in_every_process() -> None:
    program = (
        "from fastq import FastQ\nfrom fastq.app.unique import key_of\n"
        "task = FastQ('keys').task(name='t', unique=True)(lambda x: None)\n"
        "print(key_of(task, ({'a', 'b', 'c', 'd', 1, None},), {}, by=True))"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert keys == {'{"x": ["a", "b", "c", "d", 1, null]}\n'}
