"""The fastq wire: what is written is read again, as itself and as Celery's message."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import timedelta, timezone
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.serialization import loads as kombu_loads

from fastq.wire.packed import pack, read, to_envelope

ID = "1b671a64-40d5-491e-99b0-da01ff1f3341"

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.one_of(
    *[st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXT, st.binary(max_size=20)],
    *[st.datetimes(), st.datetimes(timezones=st.just(timezone.utc)), st.dates(), st.times(), st.uuids()],
    st.datetimes(timezones=st.just(timezone(timedelta(hours=-3, minutes=-30)))),
    st.decimals(allow_nan=False),
)
VALUES = st.recursive(
    SCALARS, lambda inside: st.lists(inside, max_size=4) | st.dictionaries(TEXT, inside, max_size=4), max_leaves=12
)
ARGS, KWARGS = st.lists(VALUES, max_size=4), st.dictionaries(TEXT, VALUES, max_size=4)
IDS = st.uuids().map(str) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)


def packed_one(*args: Any, **options: Any) -> bytes:
    return pack("t.add", args, task_id=ID, queue="celery", options=options)


# ---------------------------------------------------------------------------- round trips


@settings(max_examples=300, deadline=None)
@given(ARGS, KWARGS, IDS)
def test_what_is_packed_is_read(args: list[Any], kwargs: dict[str, Any], task_id: str) -> None:
    message = read(pack("t.add", args, kwargs, task_id=task_id, queue="mail"))
    assert (message.task, message.id, message.queue) == ("t.add", task_id, "mail")
    assert message.arguments() == (args, kwargs)


@settings(max_examples=300, deadline=None)
@given(ARGS, KWARGS)
def test_celerys_message_carries_the_same_values(args: list[Any], kwargs: dict[str, Any]) -> None:
    envelope = json.loads(to_envelope(pack("t.add", args, kwargs, task_id=ID, queue="mail")))
    body = b64decode(envelope["body"])
    assert kombu_loads(body, "application/json", "utf-8")[:2] == [args, kwargs]
