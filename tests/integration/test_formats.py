"""Serializers, compressions, JSON types and protocols, in and out, with a stock producer at the other end."""

from __future__ import annotations

import json
import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab, stored
from tests.push import envelope, push

COMPRESSIONS = ["gzip", "zlib", "bzip2", "lzma", "brotli", "zstd"]
VALUE: dict[str, Any] = {"text": "naïve – ☃ 😀", "list": [1, 2.5, None, True], "deep": {"a": {"b": []}}}


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """One worker that accepts every serializer."""
    module_lab.use("tests.apps.open", accept_content=["json", "pickle", "yaml", "msgpack", "pyrepr"])
    module_lab.worker()
    return module_lab


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack", "pyrepr"])
def test_serializers(lab: Lab, serializer: str) -> None:
    sent = lab.task("echo").apply_async((VALUE, 1), {"k": "v"}, serializer=serializer)
    assert sent.get(timeout=RESULT_S) == [[VALUE, 1], {"k": "v"}]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_compressions(lab: Lab, compression: str, serializer: str) -> None:
    if compression == "brotli":
        pytest.importorskip("brotli")
    if compression == "zstd":
        pytest.importorskip("backports.zstd")
    sent = lab.task("ret").apply_async((VALUE,), serializer=serializer, compression=compression)
    assert sent.get(timeout=RESULT_S) == VALUE


def test_kombus_json_types_arrive_as_python_types(lab: Lab) -> None:
    some_id = uuid.UUID("12345678-1234-5678-1234-567812345678")
    moment = datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
    args = (moment, date(2020, 1, 2), time(1, 2, 3), Decimal("1.50"), some_id, b"abc", b"\xff\x00", (1, 2))
    names = [text.split()[0] for text in lab.run("types", *args)]
    assert names == ["datetime", "date", "time", "Decimal", "UUID", "bytes", "bytes", "list"]


def test_kombus_json_types_come_back_as_python_types(lab: Lab) -> None:
    values = [
        datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))),
        date(2020, 1, 2),
        Decimal("1.50"),
        uuid.UUID(int=5),
        b"\xff\x00",
    ]
    assert lab.run("ret", values) == values


def test_json_types_are_stored_in_kombus_form(lab: Lab) -> None:
    sent = lab.send("ret", [Decimal("1.5"), b"abc"])
    sent.get(timeout=RESULT_S)
    raw: Any = lab.db.client.get(f"celery-task-meta-{sent.id}")
    assert b'[{"__type__": "decimal", "__value__": "1.5"}, {"__type__": "bytes", "__value__": "abc"}]' in raw


def test_tuples_become_lists_and_numbers_survive(lab: Lab) -> None:
    assert lab.run("ret", (1, (2, 3))) == [1, [2, 3]]
    assert lab.run("ret", [2**80, 1e308, -0.0]) == [2**80, 1e308, -0.0]
    assert repr(lab.run("ret", [float("nan"), float("inf")])) == "[nan, inf]"


def test_json_result_text_is_what_celery_writes(lab: Lab) -> None:
    sent = lab.send("ret", {"b": 1, "a": "é"})
    sent.get(timeout=RESULT_S)
    raw: Any = lab.db.client.get(f"celery-task-meta-{sent.id}")
    assert raw.startswith(
        b'{"status": "SUCCESS", "result": {"b": 1, "a": "\\u00e9"}, "traceback": null, "children": []'
    )


def test_protocol_1(lab: Lab) -> None:
    client = lab.client(task_protocol=1)
    sent = client.tasks["t.echo"].apply_async((2,), {"y": 3}, time_limit=9, soft_time_limit=8, priority=3)
    assert sent.get(timeout=RESULT_S) == [[2], {"y": 3}]


def test_protocol_1_with_link_and_countdown(lab: Lab) -> None:
    client = lab.client(task_protocol=1)
    add = client.tasks["t.add"]
    sent = add.apply_async((2, 3), countdown=0.3, expires=60, link=add.s(10))
    assert sent.get(timeout=RESULT_S) == 5
    assert eventually(lambda: sent.children)[0].get(timeout=RESULT_S) == 15


def test_a_body_that_is_plain_text_instead_of_base64(lab: Lab) -> None:
    message = envelope([[1, 2], {}, {}])
    message["body"] = "[[1, 2], {}, {}]"
    message["properties"]["body_encoding"] = None
    task_id = push(lab.db, message)
    eventually(lambda: stored(lab, task_id).get("result") == 3)


def test_keys_of_an_envelope_in_any_order_and_with_spaces(lab: Lab) -> None:
    message = envelope([[1, 2], {}, {}])
    shuffled = {key: message[key] for key in reversed(message)}
    push(lab.db, json.dumps(shuffled, indent=3, ensure_ascii=False))
    eventually(lambda: stored(lab, message["headers"]["id"]).get("result") == 3)


def test_headers_of_the_user_arrive(lab: Lab) -> None:
    sent = lab.task("view").apply_async(headers={"x-trace": "abc", "n": 1})
    seen = json.loads(sent.get(timeout=RESULT_S))
    assert seen["headers"]["x-trace"] == "abc"
    assert seen["headers"]["n"] == 1


def test_shadow_name_is_what_the_log_shows(lab: Lab) -> None:
    sent = lab.send("add", 1, 1, shadow="pretty.name")
    lab.workers[0].wait_log(rf"Task pretty\.name\[{sent.id}\] received")
