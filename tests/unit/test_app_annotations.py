"""Annotations with names that exist for type checkers only keep no task from being defined, checked and called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest

from fastq.app.annotations import hints_of, signature_of
from fastq.app.running.arguments import caller_of, decoder_of
from fastq.errors import ArgumentError

LAZY = pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated at once before Python 3.14")
TASK = """
def task(count: int, total: Missing, *, parts: list[Missing] = ()) -> Missing:
    return [count, total, *parts]
"""


def made(source: str) -> Callable[..., Any]:
    """The function `task` of a module of its own."""
    names: dict[str, Any] = {"__name__": "made", "Annotated": Annotated, "Literal": Literal}
    exec(compile(source, "made.py", "exec", dont_inherit=True), names)
    found: Callable[..., Any] = names["task"]
    return found


@pytest.mark.parametrize("head", ["from __future__ import annotations", pytest.param("", marks=LAZY)])
def test_a_name_for_type_checkers_only_keeps_nobody_from_calling(head: str) -> None:
    task = made(head + TASK)
    caller = caller_of(task, name="task")
    assert caller(1, {"any": "thing"}, parts=[2, "x"]) == [1, {"any": "thing"}, 2, "x"]
    assert list(signature_of(task).parameters) == ["count", "total", "parts"]
    assert decoder_of(task)({"as": "stored"}) == {"as": "stored"}
    with pytest.raises(ArgumentError, match="missing a required argument"):
        caller(1)


@LAZY
def test_what_can_be_looked_at_is_checked_all_the_same() -> None:
    with pytest.raises(ArgumentError, match="'count'"):
        caller_of(made(TASK), name="task")("many", 1)


def test_a_type_with_a_mere_name_in_it_is_left_out() -> None:
    source = (
        "def task(a: 'Missing', b: list['Missing'], c: dict[str, list['Missing']], d: Literal['x'],"
        " e: Annotated[int, 'unit'], f: int | None): ..."
    )
    assert list(hints_of(made(source))) == ["d", "e", "f"]
