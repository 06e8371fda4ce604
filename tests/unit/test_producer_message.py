"""The producer's messages are Celery's, byte for byte: against recorded ones, and for awkward values."""

from __future__ import annotations

import json
import uuid
from base64 import b64decode
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fastq.errors import OptionError
from fastq.producer.ids import uuids
from fastq.producer.message import Stencil
from fastq.producer.options import Keys, Options
from fastq.producer.producer import Producer
from fastq.wire.kombu_json import encode_text

GOLDEN = Path(__file__).parent.parent / "celery" / "golden"
NOW = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=timezone.utc)

_JSON_TYPES = (
    datetime(2020, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001 - a naive time is a case of its own
    datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    date(2020, 1, 2),
    time(1, 2, 3),
    Decimal("1.50"),
    uuid.UUID("12345678123456781234567812345678"),
    b"abc",
    b"\xff\x00",
    (1, 2),
    None,
    1.5,
    float("nan"),
    "é",
)

#: Recorded message, arguments, options. What only a known task tells Celery (ignore_result) is given.
RECORDED: list[tuple[str, tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
    ("json", (2,), {"y": 3}, {}),
    ("json-types", _JSON_TYPES, {"k": {"__type__": "x"}}, {}),
    ("long-args", ("x" * 3000, {"a": {"b": {"c": {"d": 1}}}}), {}, {}),
    ("custom-headers", (1, 1), {}, {"headers": {"x-trace": "abc", "n": 1}}),
    ("eta-naive", (1, 1), {}, {"eta": "2030-01-02T03:04:05"}),
    ("timelimits", (1, 1), {}, {"time_limit": 30, "soft_time_limit": 20}),
    ("shadow", (1, 1), {}, {"shadow": "pretty.name"}),
    ("reply-to", (1, 1), {}, {"reply_to": "my-reply"}),
    ("queue", (1, 1), {}, {"queue": "other"}),
    ("ignore-result", (1, 1), {}, {"ignore_result": True}),
    *((f"priority-{p}", (1, 1), {}, {"priority": p}) for p in (0, 1, 3, 5, 9, 255)),
]


def recorded(name: str) -> tuple[str, str]:
    """The key and the envelope of a recorded send."""
    path = GOLDEN / f"msg-v2-{name}.json"
    if not path.exists():
        pytest.skip(f"{path.name} is not among the golden samples")
    commands = json.loads(path.read_text())["redis_commands"]
    return next((c[1], c[2]) for c in commands if c[0] == "LPUSH")


@pytest.mark.parametrize(("name", "args", "kwargs", "given"), RECORDED, ids=[case[0] for case in RECORDED])
def test_a_message_is_what_celery_wrote(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], given: dict[str, Any]
) -> None:
    key, wanted = recorded(name)
    envelope = json.loads(wanted)
    options = Options(**{"ignore_result": False, "reply_to": envelope["properties"]["reply_to"], **given})
    queue, priority = options.queue or "celery", options.priority or 0
    stencil = Stencil(
        envelope["headers"]["task"], options=options, queue=queue, priority=priority, reply_to="", now=NOW
    )
    ids = [envelope["headers"]["id"], envelope["properties"]["delivery_tag"]]
    (text,) = stencil.fill([(args, kwargs)], ids)
    assert text.replace(json.loads(text)["headers"]["origin"], envelope["headers"]["origin"]) == wanted
    assert Keys().key(queue, priority=priority) == key


def sent(args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
    """One envelope, read back."""
    stencil = Stencil("t.add", options=Options(**given), queue="celery", priority=0, reply_to="r", now=NOW)
    (text,) = stencil.fill([(args, kwargs)], ["an-id", "a-tag"])
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_countdown_becomes_an_aware_time() -> None:
    assert sent(countdown=1.5)["headers"]["eta"] == "2026-11-20T12:00:01.623456+00:00"


def test_a_countdown_of_nothing_sends_no_time() -> None:
    assert sent(countdown=0)["headers"]["eta"] is None


@pytest.mark.parametrize(
    ("expires", "header", "milliseconds"),
    [
        (120, "2026-11-20T12:02:00.123456+00:00", "120000"),
        (NOW + timedelta(seconds=2), "2026-11-20T12:00:02.123456+00:00", "2000"),
        ("2026-11-20T12:00:10.123456", "2026-11-20T12:00:10.123456", "10000"),
        (-5, "2026-11-20T11:59:55.123456+00:00", "0"),
    ],
)
def test_an_expiry_is_told_twice(expires: Any, header: str, milliseconds: str) -> None:
    message = sent(expires=expires)
    assert message["headers"]["expires"] == header
    assert message["properties"]["expiration"] == milliseconds


def test_a_header_of_the_callers_wins_and_percent_signs_survive() -> None:
    message = sent(("100%s",), headers={"lang": "%d", "argsrepr": "mine"})
    assert message["headers"]["lang"] == "%d"
    assert message["headers"]["argsrepr"] == "mine"
    assert json.loads(b64decode(message["body"]))[0] == ["100%s"]


def test_a_lone_surrogate_travels() -> None:
    message = sent(("\ud800",), {"k\x00": "\ud800"})
    assert json.loads(b64decode(message["body"]))[:2] == [["\ud800"], {"k\x00": "\ud800"}]


def test_arguments_that_are_text_are_refused() -> None:
    with pytest.raises(TypeError, match="list or a tuple"):
        sent("abc")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [object(), print])
def test_a_value_that_kombu_refuses_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        encode_text([value])


def test_a_set_is_sent_as_a_list() -> None:
    assert encode_text([{1}, frozenset()]) == "[[1], []]"


def test_a_failed_encoding_leaves_nothing_behind() -> None:
    inner: list[object] = [object()]
    with pytest.raises(TypeError):
        encode_text(inner)
    inner.clear()
    assert encode_text(inner) == "[]"


def test_ids_are_random_uuids() -> None:
    ids = uuids(1000)
    assert len(set(ids)) == 1000
    assert all(str(uuid.UUID(one)) == one and uuid.UUID(one).version == 4 for one in ids)
    assert {uuid.UUID(one).variant for one in ids} == {uuid.RFC_4122}


def test_keys_follow_the_transport_options() -> None:
    keys = Keys.from_options({"global_keyprefix": "p:", "sep": ":", "priority_steps": [5, 0]})
    assert [keys.key("q", priority=p) for p in (-1, 4, 5, 255)] == ["p:q", "p:q", "p:q:5", "p:q:5"]


def test_an_unknown_option_is_named() -> None:
    with Producer("redis://127.0.0.1:1/0") as producer, pytest.raises(OptionError, match="colour"):
        producer.send("t.add", colour="red")  # type: ignore[call-arg]


def test_many_messages_cannot_share_an_id() -> None:
    with Producer("redis://127.0.0.1:1/0") as producer, pytest.raises(OptionError, match="task_id"):
        producer.send_many("t.add", [((1,), None)], task_id="x")
