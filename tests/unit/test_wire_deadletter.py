"""A dead letter keeps its message to the byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastq.errors import EnvelopeError
from fastq.wire.deadletter import DeadLetter, Death, decode_letter, identity, retries_of
from tests.push import envelope


@given(st.binary(max_size=200))
def test_whatever_it_is(raw: bytes) -> None:
    deaths = (Death(at=1.0, node="w@h", pid=7, reason="signal 9", peak_kib=5, oom_kills=1, stack="here"),)
    letter = DeadLetter.of(raw, reason="crashes", detail="why", at=2.0, node="w@h", deaths=deaths)
    again = decode_letter(letter.encode())
    assert again == letter
    assert again.message == raw


def test_it_says_what_can_be_read_of_it() -> None:
    raw = json.dumps(envelope([[1, 2], {}, None])).encode()
    letter = DeadLetter.of(raw, reason="unknown", detail="", at=0.0)
    assert letter.task == "t.add"
    assert letter.id
    assert identity(raw) == f"{letter.id}:0"
    assert retries_of(raw) == 0
    assert identity(b"nothing") == ""
    assert retries_of(b"nothing") == 0


def test_what_is_no_letter() -> None:
    with pytest.raises(EnvelopeError, match="not a dead letter"):
        decode_letter(b"{}")
