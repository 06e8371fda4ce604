"""The runner's own readers: whatever they answer is what Python would say, and they may decline."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastq import _core
from tests.core.ledger_lab import FAST
from tests.core.task_ring import TaskRing, envelope


@given(st.binary(max_size=200))
def test_base64_of_anything(data: bytes) -> None:
    text = base64.b64encode(data)
    assert _core.unbase64(text) == (data or None)


@given(st.text("ABab01+/=-_ \n.", max_size=24))
def test_other_text_is_declined_or_right(text: str) -> None:
    found = _core.unbase64(text.encode())
    assert found is None or found == base64.b64decode(text)


_names = st.none() | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
_flags = st.sampled_from([None, True, False, 0, 1, "true"])


@given(_flags, _names, _names, _names)
def test_headers(ignore_result: Any, group: Any, parent_id: Any, shadow: Any) -> None:
    message = envelope(ignore_result=ignore_result, group=group, parent_id=parent_id, shadow=shadow)
    found = _core.head_of(message)
    if found is not None:
        assert shadow is None
        names = tuple(name.decode() if name else None for name in found[1:])
        assert (found[0], *names) == (ignore_result, group or None, parent_id or None)


def test_the_usual_headers_are_read() -> None:
    assert _core.head_of(envelope(ignore_result=False, group="g", parent_id="p")) == (False, b"g", b"p")
    assert _core.head_of(envelope()) == (False, None, None)
    missing = json.loads(envelope())
    for name in ("ignore_result", "group", "parent_id", "shadow"):
        del missing["headers"][name]
    assert _core.head_of(json.dumps(missing).encode()) == (None, None, None)


def short_way(message: bytes) -> Any:
    """What the short way finds; the engine has told the child where the id lies."""
    at = message.index(b'"id": "') + len(b'"id": "')
    return _core.usual_head_of(message, at, message.index(b'"', at) - at)


@given(_flags, _names, _names, st.sampled_from(["", "retries", "origin", "group", "ignore_result", "parent_id"]))
def test_the_short_way_finds_the_same(ignore_result: Any, group: Any, parent_id: Any, moved: str) -> None:
    message = json.loads(envelope(ignore_result=ignore_result, group=group, parent_id=parent_id))
    if moved:
        # Another order, and what a client of another kind could write behind the usual.
        message["headers"][moved] = message["headers"].pop(moved)
    found = short_way(json.dumps(message).encode())
    assert found is None if moved else found == _core.head_of(json.dumps(message).encode())


@pytest.mark.parametrize(
    ("usual", "other"),
    [
        (b'"stamps": {}}', b'"stamps": {}, "group": "g"}'),
        (b'{"lang": "py", ', b'{"lang": "py", "group": "g", '),
        (b'{"lang": "py", ', b'{"lang":"py", '),
        (b'"eta": null', b'"eta":null'),
        (b'"retries": 0', b'"retries": 1'),
        (b'"ignore_result": false', b'"ignore_result": 0'),
    ],
)
def test_the_short_way_is_only_for_the_usual_text(usual: bytes, other: bytes) -> None:
    message = envelope()
    assert message.count(usual) == 1
    changed = message.replace(usual, other)
    assert short_way(changed) in (None, _core.head_of(changed))
    assert short_way(message) == (False, None, None)


def test_what_is_unusual_is_declined() -> None:
    assert _core.head_of(envelope(shadow="other")) is None
    assert _core.head_of(envelope(group='g"')) is None
    assert _core.head_of(envelope(parent_id=5)) is None
    assert _core.head_of(b'{"body": "x"}') is None


@pytest.mark.skipif(not FAST, reason="the frame is of a plain message; FASTQ_FAST=0 knows none")
def test_the_ring_of_the_tests_is_the_ring() -> None:
    ring = TaskRing()
    ring.put(envelope("t.a", task_id="abc"), task=7, flags=_core.LATE, expires=12.5)
    port = ring.port()
    assert port.wait(0.0) == 1
    assert (port.kind, port.flags, port.task, port.expires) == (_core.TASK, _core.LATE, 7, 12.5)
    assert port.payload() == envelope("t.a", task_id="abc")
    assert port.start()
    port.outcome(_core.REJECT, 2, b"data")
    (answer,) = ring.answers()
    assert (answer.outcome, answer.number, answer.commands, answer.data) == (_core.REJECT, 0, 2, b"data")


@pytest.mark.skipif(not FAST, reason="FASTQ_FAST=0 knows no plain messages")
def test_the_name_of_a_plain_message() -> None:
    assert _core.plain_name(envelope("t.a", task_id="abc")) == ("t.a", "abc")
    stamped = json.loads(envelope("t.a"))
    stamped["headers"]["stamped_headers"] = ["x"]
    assert _core.plain_name(json.dumps(stamped).encode()) is None
    assert _core.plain_name(b"{}") is None
