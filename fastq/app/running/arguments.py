"""Check and convert a task's arguments by the annotations of its function, with msgspec.

Arguments travel as JSON or MessagePack. What a function says it takes (a Struct, a dataclass, an enumeration, a
datetime, a UUID, a Decimal, a pydantic model) is made of it here, in the child. Nothing is converted that fits already.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import sys
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from fastq.app.annotations import hints_of, signature_of
from fastq.errors import ArgumentError, TaskError
from fastq.producer.handle import as_stored
from fastq.wire.plain import TEXTS

#: Types whose values need no look at what is inside of them.
_PLAIN = (int, str, float, bool, bytes)


class _Parameter(msgspec.Struct, frozen=True):
    """One parameter whose argument is checked."""

    name: str
    wanted: Any
    #: The type whose instances fit as they are; None: always look.
    exact: type | None = None


class Caller:
    """Calls a task's function with checked arguments. `prefix` goes before them: the task itself, under `bind`."""

    def __init__(self, function: Callable[..., Any], *, name: str, prefix: tuple[Any, ...] = ()) -> None:
        self.function: Callable[..., Any] = function
        self.name: str = name
        self.prefix: tuple[Any, ...] = prefix
        self._signature = signature_of(function)
        self._positional: list[_Parameter | None] = []
        self._named: dict[str, _Parameter | None] = {}
        self._rest: _Parameter | None = None
        self._others: _Parameter | None = None
        self._read()
        #: How many positional arguments fit without a closer look, where nothing is given by name.
        self._enough = self._counts()

    def _read(self) -> None:
        hints = hints_of(self.function)
        for parameter in list(self._signature.parameters.values())[len(self.prefix) :]:
            found = _parameter(parameter.name, hints.get(parameter.name, Any))
            if parameter.kind is parameter.VAR_POSITIONAL:
                self._rest = found
            elif parameter.kind is parameter.VAR_KEYWORD:
                self._others = found
            else:
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    self._positional.append(found)
                if parameter.kind is not parameter.POSITIONAL_ONLY:
                    self._named[parameter.name] = found

    def _counts(self) -> range:
        parameters = list(self._signature.parameters.values())[len(self.prefix) :]
        if any(one.kind is one.KEYWORD_ONLY and one.default is one.empty for one in parameters):
            return range(0)
        positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
        return range(sum(one.default is one.empty for one in positional), len(positional) + 1)

    @property
    def checks(self) -> bool:
        """Whether any argument is looked at."""
        return bool(any(self._positional) or any(self._named.values()) or self._rest or self._others)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Raises ArgumentError, before the function has been called, for arguments that do not fit it."""
        args, kwargs = self.convert(args, kwargs)
        return self.function(*self.prefix, *args, **kwargs)

    def convert(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the function wants them. Raises ArgumentError."""
        if kwargs or len(args) not in self._enough:
            self._bind(args, kwargs)
        count = len(self._positional)
        plan = [*self._positional[: len(args)], *[self._rest] * (len(args) - count)]
        found = tuple(self._one(value, parameter) for value, parameter in zip(args, plan, strict=True))
        others = self._others
        return found, {key: self._one(value, self._named.get(key, others), key) for key, value in kwargs.items()}

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self._signature.bind(*self.prefix, *args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"task {self.name}: {error}") from None

    def _one(self, value: Any, parameter: _Parameter | None, given_as: str = "") -> Any:
        if parameter is None or type(value) is parameter.exact:
            return value
        try:
            return convert(value, parameter.wanted)
        except (msgspec.ValidationError, ValueError, TypeError) as error:
            name = given_as or parameter.name
            raise ArgumentError(f"task {self.name}: argument {name!r} is {value!r:.200}: {error}") from None


def convert(value: Any, wanted: Any) -> Any:
    """The value as an instance of `wanted`. Raises msgspec.ValidationError, or what a model's own check raises."""
    try:
        return msgspec.convert(value, wanted, dec_hook=_custom, str_keys=True)
    except msgspec.ValidationError:
        raise
    except TypeError:
        # Not the value: msgspec does not take such a type. Models beside others in a union pydantic can tell apart.
        adapter = _adapter(wanted)
        if adapter is None:
            raise
        return adapter.validate_python(value, **_by_name())


def _custom(wanted: Any, value: Any) -> Any:
    origin = typing.get_origin(wanted)
    if origin is not None:
        return _generic(wanted, origin, value)
    if isinstance(value, wanted):
        return value
    validate = getattr(wanted, "model_validate", None)  # pydantic's
    if validate is not None:
        return validate(value, **(_by_name() if "pydantic" in sys.modules else {}))
    if wanted.__module__ in TEXTS and isinstance(value, str):
        return wanted(value)
    raise TypeError(f"expected {wanted.__qualname__}, got {type(value).__qualname__}")


def _generic(wanted: Any, origin: type, value: Any) -> Any:
    """An abstract type with parameters, such as Iterable[Item]. Nothing but its items can be looked at."""
    if not isinstance(value, origin):
        raise TypeError(f"expected {wanted}, got {type(value).__qualname__}")
    if origin is collections.abc.Iterable and isinstance(value, list):
        return convert(value, list[typing.get_args(wanted)[0]])  # type: ignore[misc]
    return value


@functools.cache
def _by_name() -> dict[str, bool]:
    """Has a model take its fields by their names, as they are sent, and by their aliases (pydantic 2.11 and later)."""
    from pydantic import TypeAdapter

    known = inspect.signature(TypeAdapter.validate_python).parameters
    return {"by_alias": True, "by_name": True} if "by_name" in known else {}


def _adapter(wanted: Any) -> Any:
    """What checks a type that has a pydantic model in it, by pydantic; else None."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not _has_model(wanted, pydantic.BaseModel):
        return None
    return _adapted(wanted)


@functools.cache
def _adapted(wanted: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(wanted)


def _has_model(wanted: Any, kind: type) -> bool:
    if isinstance(wanted, type) and typing.get_origin(wanted) is None:
        return issubclass(wanted, kind)
    return any(_has_model(part, kind) for part in typing.get_args(wanted))


def _parameter(name: str, wanted: Any) -> _Parameter | None:
    if wanted is Any or isinstance(wanted, typing.TypeVar) or wanted is object:
        return None
    return _Parameter(name, wanted, wanted if wanted in _PLAIN else None)


def caller_of(function: Callable[..., Any], *, name: str, prefix: tuple[Any, ...] = ()) -> Caller:
    """What calls the function of a task with arguments that were checked."""
    return Caller(function, name=name, prefix=prefix)


def decoder_of(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """Makes of a stored result what the function says it returns."""
    wanted = hints_of(function).get("return", Any)
    if wanted is None or wanted is type(None) or _parameter("", wanted) is None:
        return as_stored
    name = getattr(function, "__qualname__", "")

    def decode(value: Any) -> Any:
        try:
            return convert(value, wanted)
        except (ValueError, TypeError) as error:
            raise TaskError(f"what {name} returned is {value!r:.200}, not {wanted}: {error}") from error

    return decode
