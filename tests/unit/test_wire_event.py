"""Messages of events: as kombu writes them, and as fastq reads them."""

from __future__ import annotations

import base64
import json
from zoneinfo import ZoneInfo

import pytest

from fastq.wire.event import event_head, event_message, read_event, received_fields, zone_named
from tests.core.task_ring import envelope

EVENTS = b'{"type": "task-started", "clock": 1}, {"type": "task-succeeded", "clock": 2}'


def make(serializer: str = "json", *, many: bool = True) -> bytes:
    return event_message(
        EVENTS if many else EVENTS[:36],
        kind="task-multi",
        many=many,
        hostname='w"1@host',
        exchange="celeryev",
        serializer=serializer,
    )


def test_a_message_is_kombus_to_the_byte() -> None:
    message = make()
    found = json.loads(message)
    assert json.dumps(found).encode() == message
    assert list(found) == ["body", "content-encoding", "content-type", "headers", "properties"]
    assert found["headers"] == {"hostname": 'w"1@host'}
    assert found["properties"]["delivery_info"] == {"exchange": "celeryev", "routing_key": "task.multi"}
    assert base64.b64decode(found["body"]) == b"[" + EVENTS + b"]"


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
@pytest.mark.parametrize("many", [True, False])
def test_what_is_written_can_be_read(serializer: str, many: bool) -> None:
    events = read_event(make(serializer, many=many))
    assert [event["clock"] for event in events] == ([1, 2] if many else [1])


def test_pickle_is_written_but_not_read() -> None:
    assert json.loads(make("pickle"))["content-type"] == "application/x-python-serialize"
    assert read_event(make("pickle")) == []


@pytest.mark.parametrize("raw", [b"", b"{}", b"[1]", b"null", b'{"body": "x", "content-type": "application/json"}'])
def test_nonsense_is_no_event(raw: bytes) -> None:
    assert read_event(raw) == []


def test_every_event_begins_with_who_and_where() -> None:
    head = event_head("w1@host", pid=5)
    assert list(json.loads(head + b"1}")) == ["hostname", "utcoffset", "pid", "clock"]


def test_times_are_said_in_the_zone_of_the_application() -> None:
    raw = envelope(eta="2026-11-20T16:00:00+00:00", expires="2026-11-20T17:00:00")
    fields = received_fields(raw, zone=ZoneInfo("Asia/Kolkata"))
    assert fields is not None
    assert (fields["eta"], fields["expires"]) == ("2026-11-20T21:30:00+05:30", "2026-11-20T22:30:00+05:30")


def test_of_protocol_1_the_body_would_have_to_be_opened() -> None:
    message = json.loads(envelope())
    message["headers"] = {}
    assert received_fields(json.dumps(message).encode()) is None


def test_a_zone_that_nobody_knows_is_utc() -> None:
    assert str(zone_named("Mars/Olympus")) == "UTC"
