"""What the envelope reader makes of recorded, damaged and invented messages."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastq.errors import BodyError, EnvelopeError, HeaderError, PeerError
from fastq.wire.envelope import Header, clamp_priority, queue_key, read_header

GOLDEN = Path(__file__).parent.parent / "celery" / "golden"

#: Cases of malformed-messages.json that are refused, and as what. All others are read: some fail later, in the child.
REFUSED = {
    "id-missing": HeaderError,
    "timelimit-bad": HeaderError,
    "task-list": HeaderError,
    "headers-null": HeaderError,
    "eta-number": HeaderError,
    "eta-bad": HeaderError,
    "expires-number": HeaderError,
    "expires-bad": HeaderError,
    "envelope-array": EnvelopeError,
    "envelope-no-properties": EnvelopeError,
    "envelope-no-body": EnvelopeError,
}


def samples() -> list[Any]:
    """Every envelope that a recorded producer left on a list."""
    found = []
    for path in sorted(GOLDEN.glob("msg-*.json")):
        for key, held in json.loads(path.read_text()).get("keys", {}).items():
            entries = held["value"] if held["type"] == "list" else []
            found += [pytest.param(key, entry, id=f"{path.stem}-{n}") for n, entry in enumerate(entries)]
    return found


def malformed() -> list[Any]:
    cases = json.loads((GOLDEN / "malformed-messages.json").read_text())["cases"]
    return [pytest.param(case["case"], case["message"], id=case["case"]) for case in cases]


def read_golden(name: str) -> Header:
    keys = json.loads((GOLDEN / f"{name}.json").read_text())["keys"]
    return read_header(next(held["value"][0] for held in keys.values() if held["type"] == "list").encode())


def envelope(*, body: object = ([1], {}, {}), **changes: Any) -> dict[str, Any]:
    """A usual envelope; `headers`, `properties` and `delivery_info` are changed field by field, `...` removes one."""
    text = body if isinstance(body, str) else base64.b64encode(json.dumps(body).encode()).decode()
    made: dict[str, Any] = {
        "body": text,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": _change({"task": "t.add", "id": "one"}, changes.pop("headers", {})),
        "properties": _change(
            {
                "correlation_id": "one",
                "delivery_info": _change({"exchange": "", "routing_key": "celery"}, changes.pop("delivery_info", {})),
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": "tag",
            },
            changes.pop("properties", {}),
        ),
    }
    changed: dict[str, Any] = _change(made, changes)
    return changed


def _change(fields: dict[str, Any], changes: Any) -> Any:
    if not isinstance(changes, dict):
        return changes
    return {name: value for name, value in {**fields, **changes}.items() if value is not ...}


def read(**changes: Any) -> Header:
    return read_header(json.dumps(envelope(**changes)).encode())


# Recorded messages


@pytest.mark.parametrize(("key", "entry"), samples())
def test_every_recorded_message_is_read(key: str, entry: str) -> None:
    header = read_header(entry.encode())
    assert header.id
    assert header.delivery_tag == json.loads(entry)["properties"]["delivery_tag"]
    assert header.exchange == json.loads(entry)["properties"]["delivery_info"]["exchange"]


@pytest.mark.parametrize(("case", "message"), malformed())
def test_damaged_messages_are_refused_as_what_they_are(case: str, message: Any) -> None:
    raw = (message if isinstance(message, str) else json.dumps(message)).encode()
    if case not in REFUSED:
        assert read_header(raw).id
        return
    with pytest.raises(PeerError) as caught:
        read_header(raw)
    assert type(caught.value) is REFUSED[case]
    assert caught.value.evidence["raw"] == raw


def test_the_usual_message_is_plain() -> None:
    header = read_golden("msg-v2-json")
    assert header == Header(
        task="t.add",
        id="11111111-0000-4000-8000-000000000001",
        ignore_result=False,
        routing_key="celery",
        delivery_tag="030c85b1-36d9-42cb-bd31-61c6724db7b4",
        plain=True,
    )


def test_a_protocol_1_message_is_read_from_its_body() -> None:
    header = read_golden("msg-v1-json")
    assert (header.protocol, header.task, header.id) == (1, "t.add", "66666666-0000-4000-8000-000000000001")
    assert (header.hard_limit_s, header.soft_limit_s, header.priority) == (9.0, 8.0, 3)
    assert header.expires is not None
    assert header.eta is not None
    assert header.expires - header.eta == 55
    assert not header.plain


def test_compression_and_serializer_are_told() -> None:
    assert read_golden("msg-v2-compression-gzip").compression == "application/x-gzip"
    assert not read_golden("msg-v2-compression-gzip").plain


# What may be missing, null or odd


@pytest.mark.parametrize("name", ["retries", "eta", "expires", "timelimit", "ignore_result", "stamps", "compression"])
def test_optional_headers_may_be_null(name: str) -> None:
    assert read(headers={name: None}) == read()
    assert read().plain


def test_missing_content_type_is_that_of_raw_bytes() -> None:
    header = read(**{"content-type": ..., "content-encoding": None})
    assert (header.content_type, header.content_encoding, header.plain) == ("application/data", "utf-8", False)


@pytest.mark.parametrize(("value", "count"), [("2", 2), (1.9, 1), ("many", 0), ([], 0), (True, 1), (math.inf, 0)])
def test_retries_that_are_no_number_are_none(value: object, count: int) -> None:
    assert read(headers={"retries": value}).retries == count


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        ([None, None], (None, None)),
        ([], (None, None)),
        ([0, 0], (None, None)),
        ([5, 4.5], (5.0, 4.5)),
        ([10**400, None], (math.inf, None)),
    ],
)
def test_time_limits_are_hard_then_soft(value: object, limits: tuple[float | None, float | None]) -> None:
    header = read(headers={"timelimit": value})
    assert (header.hard_limit_s, header.soft_limit_s) == limits


@pytest.mark.parametrize("value", [5, "ab", [1], [1, 2, 3], ["1", None], {"hard": 1, "soft": 2}, [math.nan, 1]])
def test_time_limits_that_are_no_pair_of_numbers_are_refused(value: object) -> None:
    with pytest.raises(HeaderError, match="limit"):
        read(headers={"timelimit": value})


def test_a_task_that_is_a_number_is_a_name_nobody_registered() -> None:
    header = read(headers={"task": 5})
    assert (header.task, header.plain) == ("5", False)
    assert read(headers={"task": None}).task == "None"


@pytest.mark.parametrize("value", [None, [], {}, {"__type__": "uuid", "__value__": 5}])
def test_an_id_that_cannot_be_one_is_refused(value: object) -> None:
    with pytest.raises(HeaderError, match="id"):
        read(headers={"id": value})


def test_an_id_may_be_a_number_or_a_uuid() -> None:
    marked = {"__type__": "uuid", "__value__": {"hex": "0" * 31 + "1"}}
    assert read(headers={"id": 77}).id == "77"
    assert read(headers={"id": marked}).id == "00000000-0000-0000-0000-000000000001"
    assert not read(headers={"id": 77}).plain


def test_lone_surrogates_are_shown_with_backslashes() -> None:
    header = read(headers={"task": "t.\ud800", "id": "\udfff"})
    assert (header.task, header.id, header.plain) == ("t.\\ud800", "\\udfff", False)


def test_the_last_of_two_equal_keys_counts() -> None:
    raw = json.dumps(envelope()).encode().replace(b'"id": "one"', b'"id": "zero", "id": "one"')
    assert read_header(raw) == read()


def test_nan_and_large_numbers_in_user_headers_do_not_matter() -> None:
    assert read(headers={"mine": [math.nan, 10**400, "\ud800"]}).plain


@pytest.mark.parametrize(("value", "told"), [(None, None), (True, True), (0, False), ("no", True)])
def test_ignore_result_is_told_as_truth_or_nothing(value: object, told: bool | None) -> None:
    assert read(headers={"ignore_result": value}).ignore_result is told


def test_redelivered_comes_from_delivery_info() -> None:
    assert read(delivery_info={"redelivered": True}).redelivered
    assert not read(headers={"redelivered": True}).redelivered


# Times


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20T10:00:00+00:00",
        "2026-11-20T10:00:00",
        "2026-11-20T10:00:00Z",
        "2026-11-20T12:00:00.000000+02:00",
        "2026-11-20T10:00",
        "2026-11-20 10",
        "20261120T100000Z",
        "2026-W47-5T10:00:00",
        "2026-324T10:00:00",
    ],
)
def test_all_of_iso_8601_is_read_and_naive_is_utc(text: str) -> None:
    header = read(headers={"eta": text, "expires": text})
    assert header.eta == header.expires == 1795168800.0
    assert not header.plain


def test_a_datetime_of_kombus_json_is_read() -> None:
    assert read(headers={"eta": {"__type__": "datetime", "__value__": "1970-01-01T00:00:01+00:00"}}).eta == 1.0


@pytest.mark.parametrize("value", ["", "soon", 5, 0, False, [], {}, "2026-13-01", "\ud800", "2026-11-20T10:00:00\x00"])
@pytest.mark.parametrize("name", ["eta", "expires"])
def test_other_times_are_refused(name: str, value: object) -> None:
    with pytest.raises(HeaderError, match=f"invalid {name}"):
        read(headers={name: value})


# Bodies


@pytest.mark.parametrize("value", ["", 5, [], {}, True])
def test_a_body_that_is_no_text_is_refused(value: object) -> None:
    raw = json.dumps(envelope() | {"body": value}).encode()
    with pytest.raises(BodyError):
        read_header(raw)


@pytest.mark.parametrize("encoding", [None, "", "utf-8", "UTF-8"])
def test_a_body_may_be_plain_text(encoding: object) -> None:
    header = read(body="[[], {}, {}]", properties={"body_encoding": encoding})
    assert (header.body_encoding, header.protocol, header.plain) == ("utf-8", 2, False)


@pytest.mark.parametrize("encoding", ["BASE64", "hex", 5, [1]])
def test_other_body_encodings_are_refused(encoding: object) -> None:
    with pytest.raises(BodyError, match="body_encoding"):
        read(properties={"body_encoding": encoding})


def test_an_undecodable_body_of_protocol_2_is_left_to_the_child() -> None:
    assert read(body="***").protocol == 2
    assert not read(body="***").plain


def test_a_body_that_is_an_object_supplies_what_the_headers_lack() -> None:
    body = {"args": [1], "kwargs": {}, "id": "of-the-body", "eta": "1970-01-01T00:00:09"}
    header = read(body=body, headers={"id": ...})
    assert (header.protocol, header.task, header.id, header.eta) == (1, "t.add", "of-the-body", 9.0)
    assert read(body=body).id == "one"


def test_a_protocol_1_body_without_arguments_is_read() -> None:
    header = read(body={"task": "t.none", "id": "i", "timelimit": [3, 2]}, headers={"task": ..., "id": "unused"})
    assert (header.task, header.id, header.hard_limit_s) == ("t.none", "i", 3.0)


@pytest.mark.parametrize("body", [[1, 2], "e25vcGU=", 5, {"id": "no-task"}, {"task": "t", "id": "i", "kwargs": []}])
def test_protocol_1_bodies_that_are_none_are_refused(body: object) -> None:
    with pytest.raises((HeaderError, BodyError)):
        read(body=body, headers=None)


@pytest.mark.parametrize("changes", [{"content-type": "application/x-python-serialize"}, {"compressed": True}])
def test_a_protocol_1_body_that_is_not_json_is_the_childs(changes: dict[str, Any]) -> None:
    headers = {"task": ..., "id": ..., "compression": "zlib" if changes.pop("compressed", None) else ...}
    header = read(body="gAR9lC4=", headers=headers, **changes)
    assert (header.protocol, header.task, header.id) == (1, None, "one")


# Not a message


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"\xef\xbb\xbf{}", b"{", b"null", b"5", b'"x"', b"[" * 200_000, b"9" * 5000, b"{}"]
)
def test_what_is_no_envelope_is_undecodable(raw: bytes) -> None:
    with pytest.raises(EnvelopeError) as caught:
        read_header(raw)
    assert caught.value.evidence["raw"] == raw


@pytest.mark.parametrize(
    "changes",
    [
        {"properties": None},
        {"properties": {"delivery_info": ...}},
        {"properties": {"delivery_tag": ...}},
        {"delivery_info": {"exchange": ...}},
        {"delivery_info": {"routing_key": ...}},
        {"headers": [1]},
        {"body": None},
    ],
    ids=str,
)
def test_an_envelope_without_what_every_message_has_is_undecodable(changes: dict[str, Any]) -> None:
    made = envelope(**{name: value for name, value in changes.items() if name != "body"})
    if "body" in changes:
        made["body"] = None
    with pytest.raises(EnvelopeError):
        read_header(json.dumps(made).encode())


# Properties

_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8)
_json = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
_FIELDS = (
    "task id eta expires retries timelimit ignore_result compression body content-type content-encoding headers "
    "properties delivery_info exchange routing_key delivery_tag priority body_encoding correlation_id"
)
_names = st.sampled_from(_FIELDS.split())


def _put(made: dict[str, Any], name: str, value: object) -> None:
    for holder in (made, made["headers"], made["properties"]):
        if isinstance(holder, dict) and name in holder:
            holder[name] = value
            return
    if isinstance(made["headers"], dict):
        made["headers"][name] = value


@given(st.binary())
def test_arbitrary_bytes_raise_nothing_unexpected(raw: bytes) -> None:
    with pytest.raises(PeerError):
        read_header(raw)


@given(_names, _json, st.booleans())
def test_a_field_of_any_value_raises_nothing_unexpected(name: str, value: object, ascii_only: bool) -> None:
    made = envelope()
    _put(made, name, value)
    raw = json.dumps(made, ensure_ascii=ascii_only).encode("utf-8", "replace")
    answer = outcome(raw)
    if isinstance(answer, Header):
        answer.id.encode()
        assert answer.priority in range(10)
    else:
        assert answer.evidence["raw"] == raw


@given(_json)
def test_a_protocol_1_body_of_any_value_raises_nothing_unexpected(value: object) -> None:
    for body in (value, {"task": "t", "id": value, "eta": value}, {"args": value, "kwargs": {}, "task": value}):
        made = envelope(body=json.dumps(body), headers=None, properties={"body_encoding": None})
        answer = outcome(json.dumps(made).encode())
        assert isinstance(answer, PeerError) or answer.protocol == 1


def outcome(raw: bytes) -> Header | PeerError:
    try:
        return read_header(raw)
    except PeerError as error:
        return error


# Queue keys


@pytest.mark.parametrize(
    ("priority", "key"),
    [(0, "q"), (2, "q"), (3, "q\x06\x163"), (5, "q\x06\x163"), (9, "q\x06\x169"), (255, "q\x06\x169"), (-1, "q")],
)
def test_the_queue_key_is_that_of_the_greatest_step_not_above(priority: int, key: str) -> None:
    assert queue_key("q", priority) == key


def test_the_queue_key_obeys_steps_and_separator() -> None:
    assert queue_key("q", 7, steps=[0, 5, 7], separator=":") == "q:7"


@given(st.integers() | st.floats() | st.text() | st.none())
def test_a_priority_is_always_one_of_ten(value: object) -> None:
    assert clamp_priority(value) in range(10)
