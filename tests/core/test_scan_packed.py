"""The scan's law for messages of wire fastq: what it takes, the plain reader reads, and the same from it."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from fastq import _core
from fastq.errors import PeerError
from fastq.wire.envelope import read_header
from fastq.wire.packed import id_of, pack, read
from tests.core.ledger_lab import FAST

ID, GROUP = "1b671a64-40d5-491e-99b0-da01ff1f3341", "b0a3bba5-4a0f-4b9c-a0a5-7f2d0f1c2e33"
ARGUMENTS = (1, "two", [3.0, None, {"four": b"\x05"}], 2**40, -7, "x" * 300), {"six": ["é"] * 40}

compiled = pytest.mark.skipif(not FAST, reason="the compiled scan is switched off")


def usual(task_id: str = ID, **options: Any) -> bytes:
    return pack("t.add", *ARGUMENTS, task_id=task_id, queue="celery", options=options)


def check(raw: bytes) -> bool:
    """Assert the law for these bytes; True if the scan took them."""
    found = _core.scan(raw)
    if found is None:
        return False
    header, message = read_header(raw), read(raw)
    assert header.plain
    assert header.shadow is None
    assert header.stamps == {}
    assert found == (header.task, header.id, message.body)
    head = _core.head_of(raw)
    if head is not None:
        said = message.options
        ids = [None if text is None else text.encode() for text in (id_of(said, "group"), id_of(said, "parent_id"))]
        assert head == (said.ignore_result, *ids)
    return True


# ---------------------------------------------------------------------------- messages built from parts

UNICODE = st.characters(exclude_categories=["Cs"])
PIECES = st.one_of(
    *[
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.text(UNICODE, max_size=40),
        st.binary(),
    ],
    *[st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=20)), st.just(ID), st.just(GROUP)],
    *[st.just(msgspec.Raw(b"\xc4\x10" + bytes(16))), st.just(msgspec.Raw(b"\xc4\x0f" + bytes(15)))],
)
KEYS = st.text(UNICODE, max_size=5) | st.integers(0, 5) | st.binary(max_size=3)
ANYTHING = st.recursive(
    PIECES,
    lambda inside: st.lists(inside, max_size=20) | st.dictionaries(KEYS, inside),
    max_leaves=30,
)
NAMES = [
    *["eta", "expires", "timelimit", "priority", "retries", "ignore_result", "shadow", "root_id", "parent_id", "group"],
    *["group_index", "reply_to", "origin", "argsrepr", "kwargsrepr", "replaced_task_nesting", "stamped_headers"],
    *["stamps", "headers", "callbacks", "errbacks", "chain", "chord", "other"],
]
OPTIONS = st.none() | st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=4)
TASKS = st.sampled_from(["t.add", "x", "é", "t" * 40, "t" * 300, 'a"b', "", 5])
BODIES = st.tuples(st.lists(ANYTHING, max_size=4), st.dictionaries(st.text(UNICODE, max_size=5), ANYTHING, max_size=4))
IDS = st.just(ID) | st.just(msgspec.Raw(b"\xc4\x10" + bytes(range(16)))) | PIECES


@settings(max_examples=100)
@given(TASKS, IDS, st.sampled_from(["celery", "é", 1]), OPTIONS, BODIES | ANYTHING)
def test_messages_built_from_parts(task: Any, task_id: Any, queue: Any, options: Any, body: Any) -> None:
    event("taken" if check(msgspec.msgpack.encode((1, task, task_id, queue, options, body))) else "declined")


@settings(max_examples=150)
@given(st.sampled_from(NAMES), ANYTHING)
def test_any_value_of_any_option(name: str, value: Any) -> None:
    raw = msgspec.msgpack.encode((1, "t.add", msgspec.Raw(b"\xc4\x10" + bytes(16)), "celery", {name: value}, ((), {})))
    event("taken" if check(raw) else "declined")


@settings(max_examples=200)
@given(st.binary(max_size=60))
@example(b"")
@example(b"\x01\xa1t\xa1i\xa1q\xc0\x92\x90\x80")
@example(b"\x01\xa1t\xa1i\xa1q\xc0\x92\xdd\xff\xff\xff\xff\x80")
@example(b"\x01\xa1t\xdd\xff\xff\xff\xff\xa1q\xc0\x92\x90\x80")
@example(b"\x01\xa1t\xa1i\xa1q\xdf\xff\xff\xff\xff\x92\x90\x80")
@example(b"\x01\xa1t\xa1i\xa1q\xc0" + b"\x91" * 100_000)
@example(b"\x01\xa1t\xa1i\xa1q\x81\xa7headers" + b"\x81\xa1a" * 100_000)
def test_any_bytes_behind_the_first(raw: bytes) -> None:
    check(b"\x96" + raw)
    try:
        read(b"\x96" + raw)
    except PeerError:
        pass  # and nothing else, whatever it is


# ---------------------------------------------------------------------------- damage

FULL = usual(group=GROUP, parent_id="parent", root_id=ID, retries=2, ignore_result=True, headers={"a": [1, {"b": "c"}]})


@settings(max_examples=1000)
@given(st.integers(0, 2**63), st.sampled_from([FULL, usual(), usual("an id of text")]), st.integers(1, 4))
def test_damaged_messages(seed: int, raw: bytes, accidents: int) -> None:
    chance, damaged = random.Random(seed), bytearray(raw)
    for _ in range(accidents):
        at = chance.randrange(len(damaged))
        kind = chance.randrange(5)
        if kind == 0:
            damaged[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            damaged[at] = chance.choice(b"\x00\x7f\x80\x81\x90\x92\xa0\xa5\xc0\xc1\xc4\xc7\xca\xd9\xdc\xdd\xde\xdf\xff")
        elif kind == 2 and len(damaged) > 20:
            del damaged[at : at + chance.randrange(1, 9)]
        elif kind == 3:
            damaged[at:at] = damaged[at : at + chance.randrange(30)]
        else:
            del damaged[max(20, at) :]
    event("taken" if check(bytes(damaged)) else "declined")


def test_every_beginning_and_end() -> None:
    """At the very end of its memory: a sanitizer build would notice what is read behind it."""
    for at in range(len(FULL)):
        assert not check(FULL[:at])
        assert not check(FULL + FULL[: at + 1])
        with pytest.raises(PeerError):
            read(FULL[:at])


def test_every_byte_replaced() -> None:
    raw = pack("t.add", (1, "x"), {"y": 2.5}, task_id=ID, queue="celery", options={"group": GROUP, "retries": 1})
    for at in range(2, len(raw)):
        for byte in range(256):
            check(raw[:at] + bytes([byte]) + raw[at + 1 :])


# ---------------------------------------------------------------------------- what it takes, and what not


@compiled
@pytest.mark.parametrize(
    "raw",
    [
        *[usual(), usual("no uuid"), usual(ID.upper()), FULL, pack("t", task_id=ID, queue="q")],
        *[usual(chain=[{"task": "t.next"}]), usual(priority=9), usual(reply_to="me", origin="gen1@host")],
    ],
)
def test_usual_messages_are_taken(raw: bytes) -> None:
    assert check(raw)


@pytest.mark.parametrize(
    "options",
    [
        *[{"eta": 5.0}, {"expires": 5}, {"timelimit": (None, 1)}, {"shadow": "x"}, {"something": 1}],
        *[{"stamps": {"a": 1}}, {"stamped_headers": ["a"]}, {"headers": {"a": "é"}}, {"group": "é"}],
    ],
    ids=lambda options: next(iter(options)),
)
def test_unusual_messages_are_declined(options: dict[str, Any]) -> None:
    assert _core.scan(usual(**options)) is None


@compiled
def test_a_canvas_is_for_python_in_the_child() -> None:
    raw = usual(callbacks=[{"task": "t.next"}])
    assert check(raw)
    assert _core.head_of(raw) is None


def test_keys_that_are_no_text_are_declined() -> None:
    """In JSON they become text: Python does that, whichever way the message comes."""
    raw = msgspec.msgpack.encode((1, "t.add", ID, "celery", None, [[{1: 2}], {}]))
    assert _core.scan(raw) is None
    assert read_header(raw).task == "t.add"
