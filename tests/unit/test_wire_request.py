"""What is told of a message to those who inspect a worker."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from fastq.wire.request import read_eta, request_info


def message(body: Any, *, headers: dict[str, Any] | None = None, kind: str = "application/json", **more: Any) -> bytes:
    """An envelope of protocol 2, unless `headers` say otherwise."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    usual = {"task": "t.add", "id": "1", "argsrepr": "(1,)", "kwargsrepr": "{}"}
    envelope: dict[str, Any] = {
        "body": base64.b64encode(data).decode(),
        "content-encoding": "utf-8",
        "content-type": kind,
        "headers": usual if headers is None else headers,
        "properties": {
            "body_encoding": "base64",
            "priority": 3,
            "delivery_tag": "t",
            "delivery_info": {"exchange": "", "routing_key": "celery"},
        },
    }
    return json.dumps({**envelope, **more}).encode()


def test_keys_stand_in_celerys_order() -> None:
    info = request_info(message([[1], {"a": 2}, {}]), node="w@h")
    assert info == {
        "id": "1",
        "name": "t.add",
        "args": [1],
        "kwargs": {"a": 2},
        "type": "t.add",
        "hostname": "w@h",
        "time_start": None,
        "acknowledged": False,
        "delivery_info": {"exchange": "", "routing_key": "celery", "priority": 3, "redelivered": False},
        "worker_pid": None,
    }
    assert list(info) == [
        *("id", "name", "args", "kwargs", "type", "hostname", "time_start", "acknowledged", "delivery_info"),
        "worker_pid",
    ]


@pytest.mark.parametrize(
    "raw",
    [
        message(b"\x80\x04", kind="application/x-python-serialize"),
        message(
            [[1], {}, {}],
            headers={"task": "t.add", "id": "1", "argsrepr": "(1,)", "kwargsrepr": "{}", "compression": "zlib"},
        ),
        message(b"no json"),
        message({"a": 1}),
        message(7),
    ],
)
def test_what_only_the_application_can_open_is_shown_as_text(raw: bytes) -> None:
    info = request_info(raw, node="w@h")
    assert (info["id"], info["args"], info["kwargs"]) == ("1", "(1,)", "{}")


def test_safe_shows_texts_of_json_too() -> None:
    assert request_info(message([[1], {}, {}]), node="w@h", safe=True)["args"] == "(1,)"


def test_protocol_1_has_everything_in_its_body() -> None:
    body = {"task": "t.add", "id": "9", "args": [5], "kwargs": {"b": 1}}
    info = request_info(message(body, headers={}), node="w@h")
    assert (info["id"], info["type"], info["args"], info["kwargs"]) == ("9", "t.add", [5], {"b": 1})


@pytest.mark.parametrize("raw", [b"", b"junk", b"[]", b"{}", b'{"headers": 7}', b"\xff", message([[1]], properties={})])
def test_of_what_cannot_be_read_little_is_told(raw: bytes) -> None:
    info = request_info(raw, node="w@h")
    assert info["hostname"] == "w@h"
    assert read_eta(raw) is None


@pytest.mark.parametrize(
    ("eta", "told"),
    [
        ("2030-01-01T00:00:00+02:00", "2030-01-01T00:00:00+02:00"),
        ("2030-01-01T00:00:00", "2030-01-01T00:00:00+00:00"),
        ("soon", None),
        (7, None),
        (None, None),
    ],
)
def test_times_are_told_as_celery_tells_them(eta: object, told: str | None) -> None:
    assert read_eta(message([[], {}, {}], headers={"task": "t", "id": "1", "eta": eta})) == told
