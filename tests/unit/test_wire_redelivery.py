"""A message marked as redelivered is otherwise the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastq.errors import EnvelopeError
from fastq.wire.envelope import read_header
from fastq.wire.redelivery import mark_redelivered

GOLDEN = Path(__file__).parent.parent / "celery" / "golden"

_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8)
_json = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
_object = st.dictionaries(st.text(max_size=5) | st.just("redelivered"), _json, max_size=4)


@st.composite
def envelopes(draw: st.DrawFn) -> bytes:
    """Any envelope with properties, written in any of the ways JSON can be."""
    made: dict[str, Any] = draw(_object)
    if draw(st.booleans()):
        made["headers"] = draw(_object | st.none())
    made["properties"] = draw(_object)
    if draw(st.booleans()):
        made["properties"]["delivery_info"] = draw(_object)
    separators = draw(st.sampled_from([(", ", ": "), (",", ":"), (" ,\n", " :\t")]))
    text = json.dumps(made, separators=separators, ensure_ascii=draw(st.booleans()))
    return text.encode("utf-8", "replace")


def expected(raw: bytes, tag: str) -> Any:
    """What kombu would make of it, and our tag."""
    made = json.loads(raw)
    made["headers"] = {**(made.get("headers") or {}), "redelivered": True}
    if isinstance(made["properties"].get("delivery_info"), dict):
        made["properties"]["delivery_info"]["redelivered"] = True
    made["properties"]["delivery_tag"] = tag
    return made


def restored_by_celery() -> list[Any]:
    """Pairs of an entry and what a stock worker restored it as, from the recordings."""
    pairs = []
    for path in sorted(GOLDEN.glob("re*.json")):
        pushed = [c for c in json.loads(path.read_text()).get("redis_commands", []) if c[1] in ("LPUSH", "RPUSH")]
        by_id: dict[str, list[str]] = {}
        for command in pushed:
            by_id.setdefault(json.loads(command[3])["headers"].get("id", ""), []).append(command[3])
        pairs += [pytest.param(*seen[:2], id=path.stem) for seen in by_id.values() if '"redelivered": true' in seen[-1]]
    return pairs


@given(envelopes())
def test_everything_else_stays_equal(raw: bytes) -> None:
    # Compared as text, because a NaN is not equal to itself.
    assert json.dumps(json.loads(mark_redelivered(raw, "fresh"))) == json.dumps(expected(raw, "fresh"))


@pytest.mark.parametrize(("before", "after"), restored_by_celery())
def test_the_bytes_are_those_of_a_stock_worker(before: str, after: str) -> None:
    tag = json.loads(after)["properties"]["delivery_tag"]
    assert mark_redelivered(before.encode(), tag).decode() == after


def test_there_are_recordings_to_compare_with() -> None:
    assert restored_by_celery()


def test_marking_twice_changes_only_the_tag() -> None:
    raw = (json.loads((GOLDEN / "msg-v2-json.json").read_text()))["keys"]["celery"]["value"][0].encode()
    once = mark_redelivered(raw, "a")
    assert mark_redelivered(once, "b") == once.replace(b'"a"}}', b'"b"}}')
    assert read_header(once).redelivered
    assert read_header(once).plain


def test_every_restored_message_gets_a_tag_of_its_own() -> None:
    raw = b'{"properties": {"delivery_tag": "old"}}'
    tags = {json.loads(mark_redelivered(raw))["properties"]["delivery_tag"] for _ in range(10)}
    assert len(tags) == 10
    assert "old" not in tags


def test_the_body_is_not_touched() -> None:
    body = '"body":"W1\\u005d \\/ \u00e9"'
    raw = f'{{{body} , "properties":{{}}}}'.encode()
    assert body.encode().partition(b":")[2] in mark_redelivered(raw)


@pytest.mark.parametrize("raw", [b"", b"\xff", b"nope", b"[]", b"{}", b'{"properties": null}', b"[" * 100_000])
def test_what_has_no_properties_cannot_be_marked(raw: bytes) -> None:
    with pytest.raises(EnvelopeError) as caught:
        mark_redelivered(raw)
    assert caught.value.evidence["raw"] == raw
