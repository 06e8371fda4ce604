"""The message of wire "fastq": one MessagePack array. The specification, in plain Python, of what is compiled.

    [1, task, id, queue, options, [args, kwargs]]

    1        the version. Six items and this number begin every message with the bytes 96 01, which begin no JSON text.
    task     text
    id       16 bytes if it is a UUID, else text
    queue    text: where it was sent; retries go there
    options  nil if there is nothing to say, else a map (`PackedOptions`)

Keys of maps are text, as in JSON. What JSON has no type for is a type of MessagePack's, or an extension (`EXTENSIONS`).
Whatever is not plain first delivery works on `to_envelope`: the same message as kombu would have written it.

Written down for other languages in docs/internals/wire-fastq.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from fastq.errors import BodyError, EnvelopeError
from fastq.wire.brief import brief
from fastq.wire.kombu_json import base64_text, encode_text
from fastq.wire.plain import structured, text_key

#: What every packed message begins with: an array of six, version 1.
MAGIC: Final = b"\x96\x01"

#: What stands before the 16 bytes of a UUID.
UUID_HEAD: Final = b"\xc4\x10"

_NIL: Final = b"\xc0"

#: Seconds since 1970 that are a time: the years 1 to 9999.
_EARLIEST_S, _LATEST_S = -62135596800.0, 253402300799.0

_Raw = msgspec.Raw


class PackedOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a message says besides task and arguments. Names and meanings are those of Celery's headers.

    Ids are 16 bytes or text, as the message's own. What is a map or an array is opened where it is needed.
    """

    #: Seconds since 1970.
    eta: float | None = None
    expires: float | None = None
    #: Hard, soft; seconds.
    timelimit: tuple[float | None, float | None] | None = None
    priority: int = 0
    retries: int = 0
    ignore_result: bool | None = None
    shadow: str | None = None
    root_id: msgspec.Raw = _Raw(_NIL)
    parent_id: msgspec.Raw = _Raw(_NIL)
    group: msgspec.Raw = _Raw(_NIL)
    group_index: int | None = None
    reply_to: str | None = None
    origin: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    replaced_task_nesting: int = 0
    stamped_headers: msgspec.Raw = _Raw(_NIL)
    stamps: msgspec.Raw = _Raw(_NIL)
    #: The caller's own: they stand among Celery's headers in the envelope.
    headers: msgspec.Raw = _Raw(_NIL)
    callbacks: msgspec.Raw = _Raw(_NIL)
    errbacks: msgspec.Raw = _Raw(_NIL)
    chain: msgspec.Raw = _Raw(_NIL)
    chord: msgspec.Raw = _Raw(_NIL)


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """A message whose body has not been opened."""

    task: str
    id: str
    queue: str
    options: PackedOptions = PackedOptions()
    body: bytes = b""

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Raises BodyError."""
        return open_body(self.body)

    @property
    def stamps(self) -> dict[str, Any]:
        """Values by the names in `stamped_headers`."""
        names, found = open_value(self.options.stamped_headers) or (), open_value(self.options.stamps) or {}
        return {name: found.get(name) for name in names}


def is_packed(raw: bytes) -> bool:
    """Whether this is meant to be a packed message, of whatever version."""
    return raw[:1] == MAGIC[:1]


# ---------------------------------------------------------------------------- writing


def pack(
    task: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    task_id: str,
    queue: str,
    options: Mapping[str, Any] | None = None,
) -> bytes:
    """One message. `options` by their names in `PackedOptions`, ids as text; None and what is left out are the same."""
    return head(task) + pack_id(task_id) + tail(queue, options) + pack_body(args, kwargs or {})


def head(task: str) -> bytes:
    """What stands before the id."""
    return MAGIC + _encode(task)


def tail(queue: str, options: Mapping[str, Any] | None) -> bytes:
    """What stands between id and body."""
    said = {name: value for name, value in (options or {}).items() if value is not None}
    return _encode(queue) + (pack_value({**said, **_packed_ids(said)}) if said else _NIL)


def _packed_ids(said: Mapping[str, Any]) -> dict[str, msgspec.Raw]:
    return {name: _Raw(pack_id(said[name])) for name in ("root_id", "parent_id", "group") if name in said}


def pack_id(text: str) -> bytes:
    """An id: bytes if it is a UUID written as Python writes it, else text."""
    try:
        found = UUID(text)
    except ValueError:
        return _encode(text)
    return UUID_HEAD + found.bytes if str(found) == text else _encode(text)


def pack_body(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """Arguments. Raises TypeError for what has no place in a message, and for text that is no Unicode text ValueError
    (lone surrogates)."""
    return _encode([stand_in(list(args)), stand_in(dict(kwargs))])


def pack_value(value: Any) -> bytes:
    """Any one value."""
    return _encode(stand_in(value))


_encode: Final = msgspec.msgpack.Encoder().encode

#: Types that are written as they are.
_AS_THEY_ARE: Final = frozenset({type(None), bool, float, str, bytes, msgspec.Raw})

_LEAST, _MOST = -(2**63), 2**64 - 1


def stand_in(value: Any) -> Any:
    """The same value of types that MessagePack has. Raises TypeError for what none stands for."""
    kind = type(value)
    if kind in _AS_THEY_ARE or (kind is int and _LEAST <= value <= _MOST):
        return value
    if isinstance(value, dict):
        return {_key(key): stand_in(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [stand_in(item) for item in value]
    for base, write in _SIMPLE:
        if isinstance(value, base):
            return write(value)
    return _special(value)


def _integer(value: int) -> Any:
    plain = int.__int__(value)
    return plain if _LEAST <= plain <= _MOST else msgspec.msgpack.Ext(_BIG, int.__repr__(plain).encode())


#: Subclasses of plain types, enumerations among them, as Python's json writes them.
_SIMPLE: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (str, str.__str__),
    (int, _integer),
    (float, float.__float__),
    ((bytes, bytearray, memoryview), bytes),
)


def _key(key: Any) -> str:
    """A key as Python's json writes it."""
    if isinstance(key, str):
        return str.__str__(key)
    known = text_key(key)
    return known if isinstance(known, str) else encode_text(known)


def _special(value: Any) -> Any:
    reducer = getattr(value, "__json__", None)
    if reducer is not None:
        return stand_in(reducer())
    if type(value) is datetime and value.tzinfo is timezone.utc:
        return value  # MessagePack's own timestamp
    for kind, code, write in _WRITTEN:
        if isinstance(value, kind):
            return msgspec.msgpack.Ext(code, write(value))
    return stand_in(structured(value))


_DATETIME, _DATE, _TIME, _DECIMAL, _UUID, _BIG = 1, 2, 3, 4, 5, 6

#: Type, extension, how it is written. The order counts: a datetime is a date as well.
_WRITTEN: Final[tuple[tuple[type, int, Callable[[Any], bytes]], ...]] = (
    (datetime, _DATETIME, lambda value: value.isoformat().encode()),
    (date, _DATE, lambda value: value.isoformat().encode()),
    (time, _TIME, lambda value: value.isoformat().encode()),
    (Decimal, _DECIMAL, lambda value: str(value).encode()),
    (UUID, _UUID, lambda value: value.bytes),
)

#: What is read of each extension.
EXTENSIONS: Final[dict[int, Callable[[bytes], Any]]] = {
    _DATETIME: lambda data: datetime.fromisoformat(data.decode()),
    _DATE: lambda data: date.fromisoformat(data.decode()),
    _TIME: lambda data: time.fromisoformat(data.decode()),
    _DECIMAL: lambda data: Decimal(data.decode()),
    _UUID: lambda data: UUID(bytes=data),
    _BIG: lambda data: int(data.decode()),
}

# ---------------------------------------------------------------------------- reading


def _extension(code: int, data: memoryview) -> Any:
    read = EXTENSIONS.get(code)
    if read is None:
        raise ValueError(f"extension {code} is none of wire fastq's")
    return read(bytes(data))


_OUTER: Final = msgspec.msgpack.Decoder(tuple[_Raw, _Raw, _Raw, _Raw, _Raw, _Raw])
_OPTIONS: Final = msgspec.msgpack.Decoder(PackedOptions | None)
_TEXT: Final = msgspec.msgpack.Decoder(str)
_MAP: Final = msgspec.msgpack.Decoder(dict[str, Any] | None, ext_hook=_extension)
_LIST: Final = msgspec.msgpack.Decoder(list[str] | None)
_ANY: Final = msgspec.msgpack.Decoder(ext_hook=_extension)

#: Arguments of a body that is known to be well-formed, fast. What is unusual raises one of `_WRONG`.
read_arguments: Final = msgspec.msgpack.Decoder(tuple[list[Any], dict[str, Any]], ext_hook=_extension).decode

#: What decoders and the readers of extensions raise.
_WRONG: Final = (msgspec.MsgspecError, ValueError, TypeError, ArithmeticError, RecursionError)


def read(raw: bytes) -> Packed:
    """A message, its body unopened. Raises EnvelopeError: such a message is put aside, whatever is wrong with it."""
    if raw[:2] != MAGIC:
        raise EnvelopeError(f"it begins with {raw[:2].hex(' ')}, a message of wire fastq with 96 01", raw=raw)
    try:
        # Well-formed first, and without making anything: a wrong length must not cost memory.
        _version, task, task_id, queue, options, body = _OUTER.decode(raw)
        return Packed(
            task=_text(task, "task"),
            id=_id(task_id, "id"),
            queue=_TEXT.decode(queue),
            options=_options(options),
            body=_body(body),
        )
    except _WRONG as error:
        raise EnvelopeError(f"it is no message of wire fastq: {error}", raw=raw) from error


def _text(raw: msgspec.Raw, name: str) -> str:
    found = _TEXT.decode(raw)
    if not found:
        raise ValueError(f"the {name} is empty")
    return found


def _id(raw: msgspec.Raw, name: str) -> str:
    written = bytes(raw)
    if written[:2] == UUID_HEAD:
        return str(UUID(bytes=written[2:]))
    return _text(raw, name)


def _body(raw: msgspec.Raw) -> bytes:
    written = bytes(raw)
    if written[:1] != b"\x92":
        raise ValueError("the body is no array of two")
    return written


def _options(raw: msgspec.Raw) -> PackedOptions:
    found: PackedOptions | None = _OPTIONS.decode(raw)
    if found is None:
        return PackedOptions()
    for moment in (found.eta, found.expires):
        if moment is not None and not _EARLIEST_S <= moment <= _LATEST_S:
            raise ValueError(f"{moment!r} is no time in seconds since 1970")
    for name in ("root_id", "parent_id", "group"):
        id_of(found, name)
    _MAP.decode(found.headers)
    _MAP.decode(found.stamps)
    _LIST.decode(found.stamped_headers)
    return found


def id_of(options: PackedOptions, name: str) -> str | None:
    """One of the ids as text."""
    raw = getattr(options, name)
    return None if bytes(raw) == _NIL else _id(raw, name)


def open_value(raw: msgspec.Raw) -> Any:
    """What one of the options' maps and arrays holds."""
    return _ANY.decode(raw)


def open_body(body: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Raises BodyError."""
    try:
        found: tuple[list[Any], dict[str, Any]] = read_arguments(body)
        return found
    except _WRONG as error:
        raise BodyError(f"the arguments cannot be decoded: {error}", body=body) from error


# ---------------------------------------------------------------------------- as Celery writes it


def as_json(raw: bytes) -> bytes:
    """The message as an envelope in JSON, whichever it is. Raises what `to_envelope` raises."""
    return to_envelope(raw) if is_packed(raw) else raw


def to_envelope(raw: bytes) -> bytes:
    """The same message as kombu writes protocol 2. Raises EnvelopeError and BodyError.

    The delivery tag is the task's id: the same bytes each time.
    """
    try:
        return encode_text(envelope_of(raw)).encode()
    except _WRONG as error:
        raise BodyError(f"it has no place in JSON: {error}", raw=raw) from error


def envelope_of(raw: bytes) -> dict[str, Any]:
    """The object that `to_envelope` writes."""
    message = read(raw)
    args, kwargs = message.arguments()
    try:
        return {
            "body": base64_text(encode_text([args, kwargs, _embed(message.options)])),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": _headers(message, args, kwargs),
            "properties": _properties(message),
        }
    except _WRONG as error:
        raise BodyError(f"it has no place in JSON: {error}", raw=raw) from error


def frame_of(raw: bytes) -> dict[str, dict[str, Any]]:
    """Headers and properties of that object, without its body. Raises EnvelopeError and BodyError."""
    message = read(raw)
    return {"headers": _headers(message, *message.arguments()), "properties": _properties(message)}


def _embed(options: PackedOptions) -> dict[str, Any]:
    return {name: open_value(getattr(options, name)) for name in ("callbacks", "errbacks", "chain", "chord")}


def _headers(message: Packed, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    said = message.options
    return {
        "lang": "py",
        "task": message.task,
        "id": message.id,
        "shadow": said.shadow,
        "eta": _iso(said.eta),
        "expires": _iso(said.expires),
        "group": id_of(said, "group"),
        "group_index": said.group_index,
        "retries": said.retries,
        "timelimit": list(said.timelimit or (None, None)),
        "root_id": id_of(said, "root_id") or message.id,
        "parent_id": id_of(said, "parent_id"),
        # Celery's client describes the tuple that it was given.
        "argsrepr": brief(tuple(args)) if said.argsrepr is None else said.argsrepr,
        "kwargsrepr": brief(kwargs) if said.kwargsrepr is None else said.kwargsrepr,
        "origin": said.origin,
        "ignore_result": said.ignore_result,
        "replaced_task_nesting": said.replaced_task_nesting,
        "stamped_headers": open_value(said.stamped_headers),
        "stamps": open_value(said.stamps) or {},
        **(open_value(said.headers) or {}),
    }


def _properties(message: Packed) -> dict[str, Any]:
    return {
        "correlation_id": message.id,
        "reply_to": message.options.reply_to,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": message.queue},
        "priority": message.options.priority,
        "body_encoding": "base64",
        "delivery_tag": message.id,
    }


def _iso(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, timezone.utc).isoformat()
