"""The fastq wire: what is written is read again, as itself and as Celery's message."""

from __future__ import annotations

import json
import re
import uuid
from base64 import b64decode
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.serialization import loads as kombu_loads

from fastq import clock
from fastq.errors import BodyError, EnvelopeError
from fastq.producer.message import Stencil
from fastq.producer.options import Options
from fastq.producer.packed import PackedStencil
from fastq.wire.deadletter import DeadLetter, decode_letter, identity
from fastq.wire.envelope import read_header
from fastq.wire.event import received_fields
from fastq.wire.packed import EXTENSIONS, PackedOptions, pack, read, to_envelope
from fastq.wire.redelivery import mark_redelivered
from fastq.wire.request import read_eta, request_info

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


# ---------------------------------------------------------------------------- round trips


@settings(max_examples=120)
@given(ARGS, KWARGS, IDS)
def test_what_is_packed_is_read(args: list[Any], kwargs: dict[str, Any], task_id: str) -> None:
    message = read(pack("t.add", args, kwargs, task_id=task_id, queue="mail"))
    assert (message.task, message.id, message.queue) == ("t.add", task_id, "mail")
    assert message.arguments() == (args, kwargs)


@settings(max_examples=120)
@given(ARGS, KWARGS)
def test_celerys_message_carries_the_same_values(args: list[Any], kwargs: dict[str, Any]) -> None:
    envelope = json.loads(to_envelope(pack("t.add", args, kwargs, task_id=ID, queue="mail")))
    body = b64decode(envelope["body"])
    assert kombu_loads(body, "application/json", "utf-8")[:2] == [args, kwargs]


@pytest.mark.parametrize("number", [-(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 10**400])
def test_integers_of_any_size(number: int) -> None:
    assert read(pack("t", [number], task_id=ID, queue="q")).arguments() == ([number], {})


class Colour(Enum):
    RED = "red"


class Level(int, Enum):
    HIGH = 3


class Point(msgspec.Struct):
    x: int
    at: datetime


class Told:
    def __repr__(self) -> str:
        return "Told()"

    def __json__(self) -> Any:
        return {"told": Decimal("1.5")}


NOON = datetime(2026, 1, 2, 12, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        *[((1, (2,)), [1, [2]]), ({3}, [3]), (frozenset(), []), (bytearray(b"x"), b"x"), (Level.HIGH, 3)],
        *[(Colour.RED, "red"), (Point(1, NOON), {"x": 1, "at": NOON}), (Told(), {"told": Decimal("1.5")})],
        *[({1: 4, None: 3, 1.5: 5}, {"1": 4, "null": 3, "1.5": 5}), (Decimal("1.10"), Decimal("1.10"))],
    ],
    ids=repr,
)
def test_what_stands_for_what(value: Any, arrives: Any) -> None:
    args, _kwargs = read(pack("t", [value], task_id=ID, queue="q")).arguments()
    assert args == [arrives]
    assert [type(arg) for arg in args] == [type(arrives)]


@pytest.mark.parametrize("value", [pytest.param(object(), id="object"), {(1, 2): 3}, "\ud800", 1j], ids=repr)
def test_what_has_no_place_is_refused_before_it_is_sent(value: Any) -> None:
    for args in ([value], [[value]]):
        with pytest.raises((TypeError, ValueError)):
            pack("t", args, task_id=ID, queue="q")
        with pytest.raises((TypeError, ValueError)):
            stencil().fill([(args, None)], [ID])


def test_a_circle_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(RecursionError):
        stencil().fill([(circle, None)], [ID])


# ---------------------------------------------------------------------------- the producer's stencil


def stencil(name: str = "t.add", **options: Any) -> PackedStencil:
    return PackedStencil(name, options=Options(**options), queue="mail", priority=0, now=clock.utc_now())


@settings(max_examples=100)
@given(ARGS, KWARGS, IDS | st.sampled_from([ID.upper(), ID.replace("-", ""), "{" + ID + "}", "0" * 36, ID[:-1] + " "]))
def test_a_stencil_writes_what_the_specification_writes(args: Any, kwargs: Any, task_id: str) -> None:
    assert stencil().fill([(args, kwargs)], [task_id]) == [pack("t.add", args, kwargs, task_id=task_id, queue="mail")]


def test_a_message_is_small() -> None:
    """About 120 bytes with all that a task of a workflow says; half of it for a single one."""
    single = stencil("shop.tasks.send_receipt").fill([((12345, "anna@example.com"), None)], [ID])
    assert len(single[0]) <= 80
    group = str(uuid.uuid4())
    member = stencil("shop.tasks.send_receipt", group_id=group, root_id=group, parent_id=group, group_index=3)
    assert len(member.fill([((12345,), {"template": "thanks"})], [ID])[0]) <= 180
    assert len(to_envelope(single[0])) > 10 * len(single[0])


def test_options_say_what_celerys_headers_say() -> None:
    now = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
    options = Options(
        countdown=10,
        expires=60.5,
        time_limit=30,
        soft_time_limit=20,
        retries=1,
        shadow="other",
        ignore_result=True,
        group_id=ID,
        root_id="r",
        parent_id="p",
        group_index=2,
        argsrepr="…",
        headers={"mine": 1},
        reply_to="me",
    )
    (raw,) = PackedStencil("t.add", options=options, queue="mail", priority=3, now=now).fill([((1,), None)], [ID])
    (text,) = Stencil("t.add", options=options, queue="mail", priority=3, now=now, reply_to="").fill(
        [((1,), None)], [ID, ID]
    )
    told, celerys = json.loads(to_envelope(raw)), json.loads(text)
    del celerys["headers"]["origin"], celerys["properties"]["expiration"], told["headers"]["origin"]
    assert told == celerys


@pytest.mark.parametrize("eta", ["2026-01-02T12:00:00", NOON.replace(tzinfo=None), "2026-01-02T13:00:00+01:00"])
def test_times_without_a_zone_are_utc(eta: Any) -> None:
    (raw,) = stencil(eta=eta).fill([((), None)], [ID])
    assert read_header(raw).eta == NOON.timestamp()


# ---------------------------------------------------------------------------- what others make of it

WAITING = pack("t.add", (1, 2), {"z": NOON}, task_id=ID, queue="mail", options={"eta": NOON.timestamp(), "retries": 2})


def test_a_redelivered_message_is_celerys() -> None:
    marked = json.loads(mark_redelivered(WAITING, "tag"))
    plain = json.loads(to_envelope(WAITING))
    assert marked["headers"].pop("redelivered") is marked["properties"]["delivery_info"].pop("redelivered") is True
    assert marked["properties"].pop("delivery_tag") == "tag"
    del plain["properties"]["delivery_tag"]
    assert marked == plain
    assert identity(mark_redelivered(WAITING)) == identity(WAITING) == f"{ID}:2"


def test_what_cannot_be_marked_goes_back_as_it_is() -> None:
    for raw in (WAITING[:-1], WAITING[:-20] + b"\xc1" * 20):
        with pytest.raises(EnvelopeError):
            mark_redelivered(raw)


def test_a_dead_letter_keeps_the_bytes() -> None:
    letter = DeadLetter.of(WAITING, reason="crashes", detail="", at=1.0)
    assert (letter.task, letter.id) == ("t.add", ID)
    assert decode_letter(letter.encode()).message == WAITING
    assert letter.shown == to_envelope(WAITING).decode()
    damaged = DeadLetter.of(WAITING[:-1], reason="undecodable", detail="", at=1.0)
    assert damaged.shown == damaged.base64


def test_people_see_arguments_and_times() -> None:
    info = request_info(WAITING, node="w@host")
    assert (info["id"], info["name"], info["args"]) == (ID, "t.add", [1, 2])
    assert info["delivery_info"]["routing_key"] == "mail"
    assert read_eta(WAITING) == NOON.isoformat()
    fields = received_fields(WAITING)
    assert fields is not None
    assert (fields["args"], fields["retries"], fields["eta"]) == ("(1, 2)", 2, NOON.isoformat())


def test_of_a_message_with_a_broken_body_the_rest_is_known() -> None:
    raw = WAITING[: WAITING.index(b"\x92\x92")] + b"\x92\x91\xa1\xff\x80"
    assert read_header(raw).task == "t.add"
    with pytest.raises(BodyError):
        to_envelope(raw)
    assert request_info(raw, node="w@host")["id"] == ID
    assert received_fields(raw) is None
    assert DeadLetter.of(raw, reason="undecodable", detail="", at=1.0).id == ID


@pytest.mark.parametrize("raw", [b"", b"{}", b"\x96", b"\x96\x02", b"\x95\x01"])
def test_other_bytes_are_no_packed_message(raw: bytes) -> None:
    with pytest.raises(EnvelopeError):
        read(raw)
    with pytest.raises(EnvelopeError):
        read_header(raw)


PAGE = Path(__file__).parents[2] / "docs" / "internals" / "wire-fastq.md"


def test_the_example_of_the_documentation_is_a_message() -> None:
    (block,) = re.findall(r"```text\n(96 .*?)```", PAGE.read_text(), re.DOTALL)
    raw = bytes.fromhex("".join(line[:43] for line in block.splitlines()))
    assert raw == pack("shop.tasks.add", (1, 2), task_id=ID, queue="fastq")
    assert f"in {len(raw)} bytes" in PAGE.read_text()


def test_the_documentation_names_every_option_and_extension() -> None:
    text = PAGE.read_text()
    assert all(f"`{name}`" in text for name in PackedOptions.__struct_fields__)
    assert all(f"| {code} |" in text for code in EXTENSIONS)
