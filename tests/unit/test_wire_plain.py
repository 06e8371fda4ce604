"""What Structs, models, enumerations and unusual keys are on both wires, and what annotations make of it again."""

from __future__ import annotations

import enum
import ipaddress
import pathlib
import uuid
from collections.abc import Callable, Iterable
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any, Generic, TypeVar

import msgspec
import pytest
from pydantic import AnyUrl, BaseModel, Field, Json, SecretStr, computed_field

from fastq.app.running.arguments import convert, decoder_of
from fastq.errors import TaskError
from fastq.wire import kombu_json, packed

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    color: Color = Color.RED


class Label(BaseModel):
    text: str


class Boxed(BaseModel, Generic[T]):
    content: T


class Strict(BaseModel):
    model_config = {"extra": "forbid"}

    full_name: str = Field(alias="fullName")
    nick: str = Field("", validation_alias="nickName")
    raw: Json[list[int]] = []
    home: AnyUrl = AnyUrl("http://localhost/")
    at: datetime = datetime(2026, 1, 2, tzinfo=timezone.utc)
    folder: pathlib.Path = pathlib.Path("/tmp")
    prices: dict[uuid.UUID, Decimal] = {}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def shout(self) -> str:
        return self.full_name.upper()


class Holder(msgspec.Struct):
    model: Point
    colors: dict[Color, int] = {}
    addresses: dict[uuid.UUID, Decimal] = {}
    folder: pathlib.Path = pathlib.Path("/")


def over_celery(value: Any) -> Any:
    return kombu_json.loads(kombu_json.encode_text(value))


def over_fastq(value: Any) -> Any:
    return packed.open_body(packed.pack_body([value], {}))[0][0]


FULL = Strict.model_validate(
    {"fullName": "Ann", "nickName": "a", "raw": "[1, 2]", "prices": {uuid.UUID(int=1): Decimal("1.10")}}
)


@pytest.mark.parametrize("travel", [over_celery, over_fastq])
@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (Point(x=1), Point),
        ([Point(x=1)], list[Point]),
        (Point(x=1), Point | None),
        (Point(x=1), Label | Point),
        (3, Point | int),
        (Boxed[int](content=3), Boxed[int]),
        (FULL, Strict),
        (Holder(Point(x=2), {Color.RED: 1}, {uuid.UUID(int=2): Decimal("2.50")}), Holder),
        ({1: "a"}, dict[int, str]),
        ({uuid.UUID(int=1): [{date(2026, 1, 2): Color.RED}]}, dict[uuid.UUID, list[dict[date, Color]]]),
        ({Decimal("1.5"): 1}, dict[Decimal, int]),
        (pathlib.Path("/tmp/x"), pathlib.Path),
        ([ipaddress.ip_address("127.0.0.1")], list[ipaddress.IPv4Address]),
        ([1, 2], Iterable[int]),
    ],
)
def test_what_was_sent_comes_out_again(travel: Callable[[Any], Any], value: Any, wanted: Any) -> None:
    assert convert(travel(value), wanted) == value


@pytest.mark.parametrize("travel", [over_celery, over_fastq])
@pytest.mark.parametrize("value", [object(), [object()], SecretStr("x"), {(1, 2): 1}, {object(): 1}])
def test_what_has_no_place_in_a_message_is_refused_by_its_type(travel: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(TypeError, match=r"object|SecretStr|tuple"):
        travel(value)


def test_an_abstract_type_with_parameters_is_refused_by_name() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"expected collections.abc.Callable\[\[int\], int\], got str"):
        convert("x", Callable[[int], int])
    with pytest.raises(msgspec.ValidationError, match="Expected `int`, got `str`"):
        convert(["x"], Iterable[int])


def test_a_result_that_is_not_what_the_function_says_is_named() -> None:
    def lies() -> int:
        return 0

    with pytest.raises(TaskError, match=r"lies returned is 'x', not <class 'int'>: Expected `int`"):
        decoder_of(lies)("x")
