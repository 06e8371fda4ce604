"""A packed message in a child: the runner, Celery's tracer, and Celery's message leave the same behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from hypothesis import given, settings
from hypothesis import strategies as st

from fastq.wire.packed import pack, to_envelope
from tests.child_lab import ChildLab, stored
from tests.core.ledger_lab import FAST

DATE = re.compile(rb"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?")
ID, GROUP = "1b671a64-40d5-491e-99b0-da01ff1f3341", "b0a3bba5-4a0f-4b9c-a0a5-7f2d0f1c2e33"

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=9) | st.uuids()
VALUES = st.recursive(
    LEAVES | st.decimals() | st.datetimes() | st.dates(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXT, inside, max_size=3),
    max_leaves=8,
)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"ignore_result": True},
    {"ignore_result": False, "group": GROUP, "parent_id": "text", "root_id": GROUP, "retries": 3},
    {"headers": {"a": [1]}, "priority": 3, "reply_to": "x"},
    {"shadow": "other"},
]


def _echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


def _about(self: Any, *_args: Any) -> Any:
    request = self.request
    return [request.id, request.root_id, request.group, request.retries, request.delivery_info, request.argsrepr]


def make_app() -> Any:
    app: Any = Celery("lab", broker="memory://", backend="redis://127.0.0.1:1/0", set_as_current=False)
    app.task(name="t.echo", shared=False)(_echo)
    app.task(name="t.about", shared=False, bind=True)(_about)
    app.task(name="t.late", shared=False, acks_late=True)(_echo)
    app.finalize()
    return app


@pytest.fixture(scope="module")
def labs() -> Iterator[list[ChildLab]]:
    found = [ChildLab(make_app(), fast=fast) for fast in (True, False)]
    yield found
    for lab in found:
        lab.close()


def left(lab: ChildLab, raw: bytes, name: str) -> list[Any]:
    """What a message leaves behind: answers of the child, with their dates the same."""
    lab.put(raw, name=name, late=name == "t.late")
    answers = lab.run()
    words = [[DATE.sub(b"DATE", word) for word in command] for command in stored(answers)]
    return [words, [(answer.kind, answer.outcome, answer.commands) for answer in answers]]


def compare(labs: list[ChildLab], raw: bytes, name: str) -> None:
    fast, slow = labs
    seen = [left(fast, raw, name), left(fast, to_envelope(raw), name), left(slow, raw, name)]
    assert seen[0][0] == seen[1][0] == seen[2][0]
    if b"__type__" not in raw:  # in JSON that may be a marker, which Python is asked about
        assert seen[0] == seen[1]


@settings(max_examples=150)
@given(args=st.lists(VALUES, max_size=3), kwargs=st.dictionaries(TEXT, VALUES, max_size=3))
def test_any_arguments(labs: list[ChildLab], args: list[Any], kwargs: dict[str, Any]) -> None:
    compare(labs, pack("t.echo", args, kwargs, task_id=ID, queue="celery"), "t.echo")


@pytest.mark.parametrize("name", ["t.echo", "t.about", "t.late"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: next(iter(options), "none"))
@pytest.mark.parametrize("task_id", [ID, "an id of the caller's own"])
def test_any_options(labs: list[ChildLab], name: str, options: dict[str, Any], task_id: str) -> None:
    compare(labs, pack(name, [1], task_id=task_id, queue="celery", options=options), name)


def test_what_looks_like_a_marker_means_what_it_means_to_celery(labs: list[ChildLab]) -> None:
    marked = {"__type__": "decimal", "__value__": "1.50"}
    raw = pack("t.echo", [marked], task_id=ID, queue="celery")
    assert left(labs[0], raw, "t.echo")[0] == left(labs[0], to_envelope(raw), "t.echo")[0]


@pytest.mark.skipif(not FAST, reason="FASTQ_FAST=0 leaves everything to Python")
def test_plain_ones_need_no_python(labs: list[ChildLab]) -> None:
    fast = labs[0]
    before = fast.left_to_python
    for raw in (
        pack("t.echo", task_id=ID, queue="celery"),
        pack("t.echo", [1, "é", b"x", 2**70], {"a": [None, 1.5]}, task_id=ID, queue="celery"),
        pack("t.about", [1], task_id="text", queue="celery", options={"group": GROUP, "headers": {"a": 1}}),
    ):
        left(fast, raw, "t.about" if b"about" in raw else "t.echo")
    assert fast.left_to_python == before
    left(fast, pack("t.echo", task_id=ID, queue="celery", options={"chain": [{"task": "t.echo"}]}), "t.echo")
    assert fast.left_to_python == before + 1
