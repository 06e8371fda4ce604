"""Read the envelope of a message: the specification, in plain Python, of what the compiled scan may answer faster.

Every list entry of kombu's Redis transport is one JSON object, the envelope. (Entries of wire "fastq" begin otherwise
and are read by `wire/packed.py`; the header is the same.) What Celery runs normally is read here, in
the way Celery reads it: `json.loads` decides what JSON is (NaN, big integers, lone surrogates, the last of two equal
keys), missing and null fields have defaults. Everything else becomes one of two errors that keep the bytes:

    EnvelopeError   not a message at all: nobody can say whose it is. Set aside, never deleted.
    HeaderError     a message, but one that no worker can run: Celery deletes most of them, and dies of the others.
    BodyError       the same, because of its body.

The body is somebody else's business, with one exception: in protocol 1 the task's name, id and times are in the body.
A JSON body is opened for them here; any other kind is left to the child, and the header then has no task.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import uuid
from bisect import bisect
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from fastq.errors import BodyError, EnvelopeError, HeaderError
from fastq.wire.moment import read_moment
from fastq.wire.packed import Packed, is_packed, read

JSON: Final = "application/json"

#: What the body of a message of wire "fastq" is.
MESSAGEPACK: Final = "application/x-msgpack"

#: Priorities a message may have; what is outside is moved to the nearest, as kombu does.
LOWEST_PRIORITY, HIGHEST_PRIORITY = 0, 9

#: kombu's defaults of the transport options `priority_steps` and `sep`.
PRIORITY_STEPS: Final = (0, 3, 6, 9)
SEPARATOR: Final = "\x06\x16"

#: First character of base64 text whose first byte is "[": the usual body is an array, and an array is protocol 2.
_ARRAY_IN_BASE64: Final = "W"

#: What a protocol 1 body says about its task; its other fields are read by the child.
_BODY_FIELDS: Final = ("task", "id", "eta", "expires", "retries", "timelimit")


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine knows of a message without opening its body.

    `task` is None only if it is in a body that is not JSON or is compressed; `id` is then the correlation id.
    Text that no UTF-8 can carry (lone surrogates) is shown with backslashes.
    """

    task: str | None
    id: str
    #: What logs and monitors call it instead.
    shadow: str | None = None
    #: Seconds since 1970.
    eta: float | None = None
    expires: float | None = None
    #: None (or 0 in the message) leaves the limit to the task's own setting.
    soft_limit_s: float | None = None
    hard_limit_s: float | None = None
    #: 0 to 9, already clamped. On Redis 0 is read first.
    priority: int = 0
    retries: int = 0
    content_type: str = JSON
    content_encoding: str = "utf-8"
    #: "base64" or "utf-8": how the body is written into the envelope; "binary" if the message is packed.
    body_encoding: str = "base64"
    compression: str | None = None
    #: None leaves it to the task's own setting.
    ignore_result: bool | None = None
    redelivered: bool = False
    exchange: str = ""
    routing_key: str = ""
    delivery_tag: str = ""
    #: By the names in `stamped_headers`: a stamp, or several.
    stamps: dict[str, Any] = {}
    #: 2: the body is an array [args, kwargs, embed]. 1: the body is an object with everything in it.
    protocol: int = 2
    #: Nothing special about it: protocol 2, JSON array in base64 (or packed), no compression, no times, no time limits.
    plain: bool = False


class _Fault(Exception):
    """Why a message is invalid, before the evidence is added."""


class _BodyFault(_Fault):
    """The same, of a body."""


class _Parts(msgspec.Struct, frozen=True):
    """An envelope whose outer shape is right."""

    envelope: dict[str, Any]
    headers: dict[str, Any]
    properties: dict[str, Any]
    delivery_info: dict[str, Any]


def read_header(raw: bytes) -> Header:
    """Read one list entry; raises EnvelopeError, HeaderError or BodyError with the bytes as evidence."""
    if is_packed(raw):
        return _packed_header(read(raw))
    parts = _take_apart(raw)
    try:
        return _header(parts)
    except _Fault as fault:
        kind = BodyError if isinstance(fault, _BodyFault) else HeaderError
        task, task_id = (_text(parts.headers.get(name)) for name in ("task", "id"))
        raise kind(str(fault), raw=raw, task=task, id=task_id) from fault


def _packed_header(message: Packed) -> Header:
    said = message.options
    hard_limit_s, soft_limit_s = said.timelimit or (None, None)
    return Header(
        task=message.task,
        id=message.id,
        shadow=said.shadow or None,
        eta=said.eta,
        expires=said.expires,
        soft_limit_s=soft_limit_s or None,
        hard_limit_s=hard_limit_s or None,
        priority=clamp_priority(said.priority),
        retries=said.retries,
        content_type=MESSAGEPACK,
        content_encoding="binary",
        body_encoding="binary",
        ignore_result=said.ignore_result,
        routing_key=message.queue,
        delivery_tag=message.id,
        stamps=message.stamps,
        plain=said.eta is None and said.expires is None and said.timelimit is None,
    )


def _take_apart(raw: bytes) -> _Parts:
    envelope = _load(raw)
    properties = envelope.get("properties")
    if not isinstance(properties, dict):
        raise EnvelopeError("the envelope has no properties", raw=raw)
    delivery_info = properties.get("delivery_info")
    if not isinstance(delivery_info, dict) or not {"exchange", "routing_key"} <= delivery_info.keys():
        raise EnvelopeError("the envelope has no delivery_info with exchange and routing_key", raw=raw)
    if properties.get("delivery_tag") is None:
        raise EnvelopeError("the envelope has no delivery_tag", raw=raw)
    headers = envelope.get("headers") or {}
    if not isinstance(headers, dict):
        raise EnvelopeError(f"the headers are no object but {type(headers).__name__}", raw=raw)
    if envelope.get("body") is None:
        raise EnvelopeError("the envelope has no body", raw=raw)
    return _Parts(envelope, headers, properties, delivery_info)


def _load(raw: bytes) -> dict[str, Any]:
    try:
        # Decoded first: json.loads(bytes) would guess UTF-16 and skip a byte order mark, kombu does neither.
        envelope = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise EnvelopeError(f"it is no JSON text: {error}", raw=raw) from error
    if not isinstance(envelope, dict):
        raise EnvelopeError(f"the envelope is no object but {type(envelope).__name__}", raw=raw)
    return envelope


def _header(parts: _Parts) -> Header:
    body, body_encoding = _body(parts)
    content_type = _named(parts.envelope, "content-type", default="application/data")
    content_encoding = _named(parts.envelope, "content-encoding", default="utf-8")
    compression = _named(parts.headers, "compression", default="") or None
    opened = None
    if content_type == JSON and compression is None:
        opened = _open_object(body, body_encoding, needed="task" not in parts.headers)
    protocol = 1 if opened is not None or "task" not in parts.headers else 2
    fields = _merge(opened, parts) if protocol == 1 else parts.headers
    hard_limit_s, soft_limit_s = _limits(fields.get("timelimit"))
    header = Header(
        task=_task(fields) if "task" in fields else None,
        id=_id(fields),
        shadow=_text(fields["shadow"]) if fields.get("shadow") else None,
        eta=_moment(fields, "eta"),
        expires=_moment(fields, "expires"),
        soft_limit_s=soft_limit_s,
        hard_limit_s=hard_limit_s,
        priority=clamp_priority(parts.properties.get("priority")),
        retries=_whole(fields.get("retries")),
        content_type=content_type,
        content_encoding=content_encoding,
        body_encoding=body_encoding,
        compression=compression,
        ignore_result=_maybe_true(fields.get("ignore_result")),
        redelivered=bool(parts.delivery_info.get("redelivered")),
        exchange=_text(parts.delivery_info["exchange"]),
        routing_key=_text(parts.delivery_info["routing_key"]),
        delivery_tag=_text(parts.properties["delivery_tag"]),
        stamps=_stamps(fields),
        protocol=protocol,
    )
    return msgspec.structs.replace(header, plain=_is_plain(header, fields=fields, body=body))


def _is_plain(header: Header, *, fields: dict[str, Any], body: str) -> bool:
    return (
        header.protocol == 2
        and header.content_type == JSON
        and header.content_encoding == "utf-8"
        and header.body_encoding == "base64"
        # Any other first character may hide an object, whose fields would have to be looked at.
        and body.startswith(_ARRAY_IN_BASE64)
        and header.compression is None
        and header.eta is header.expires is header.soft_limit_s is header.hard_limit_s is None
        and (header.task, header.id) == (fields["task"], fields["id"])
    )


# The body, and what protocol 1 has in it


def _body(parts: _Parts) -> tuple[str, str]:
    body = parts.envelope["body"]
    if not isinstance(body, str):
        raise _BodyFault(f"the body is no text but {type(body).__name__}")
    if not body:
        raise _BodyFault("the body is empty")
    encoding = parts.properties.get("body_encoding") or "utf-8"
    if encoding == "base64":
        return body, "base64"
    if isinstance(encoding, str) and encoding.lower() == "utf-8":
        return body, "utf-8"
    raise _BodyFault(f"body_encoding {encoding!r} is unknown")


def _open_object(body: str, encoding: str, *, needed: bool) -> dict[str, Any] | None:
    """The body if it is an object with a task of its own; None if it is protocol 2 or the child's to refuse."""
    if not needed and _is_array(body, encoding):
        return None
    try:
        opened = json.loads(_decode(body, encoding))
    except (ValueError, RecursionError) as error:
        if needed:
            raise _BodyFault(f"the body cannot be decoded: {error}") from error
        return None
    if needed and not (isinstance(opened, dict) and "task" in opened):
        raise _Fault("neither headers nor body name a task")
    return opened if isinstance(opened, dict) and (needed or "args" in opened) else None


def _is_array(body: str, encoding: str) -> bool:
    return body.startswith(_ARRAY_IN_BASE64 if encoding == "base64" else "[")


def _decode(body: str, encoding: str) -> str:
    if encoding != "base64":
        return body
    try:
        return base64.b64decode(body).decode()
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error


def _merge(opened: dict[str, Any] | None, parts: _Parts) -> dict[str, Any]:
    if opened is None:  # another serializer, or compressed: only the child may open it
        properties = parts.properties
        return {"id": properties.get("correlation_id") or properties["delivery_tag"], **parts.headers}
    if not isinstance(opened.get("kwargs", {}), dict):
        raise _Fault("the keyword arguments are no mapping")
    if "args" not in opened:
        return opened
    return {name: opened[name] for name in _BODY_FIELDS if name in opened} | parts.headers


# Single fields


def _named(holder: dict[str, Any], name: str, *, default: str) -> str:
    value = holder.get(name) or default
    if not isinstance(value, str):
        raise _Fault(f"{name} {value!r} is no text")
    return _text(value)


def _task(fields: dict[str, Any]) -> str:
    task = fields["task"]
    if isinstance(task, (dict, list)):
        raise _Fault(f"the task's name is no text but {task!r}")
    # A number or null is a name that nobody has registered; Celery answers it with NotRegistered.
    return _text(task) if task is not None else "None"


def _id(fields: dict[str, Any]) -> str:
    value = fields.get("id")
    if isinstance(value, dict):
        value = _marked_uuid(value)
    if value is None or isinstance(value, list):
        raise _Fault("the message has no id" if "id" not in fields else f"the id is no text but {fields['id']!r}")
    return _text(value)


def _marked_uuid(value: dict[str, Any]) -> str | None:
    try:
        return str(uuid.UUID(hex=value["__value__"]["hex"])) if value["__type__"] == "uuid" else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _moment(fields: dict[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    try:
        return read_moment(value)
    except (ValueError, OverflowError) as error:
        raise _Fault(f"invalid {name} {value!r}: {error}") from error


def _limits(value: object) -> tuple[float | None, float | None]:
    if not value:
        return None, None
    if not isinstance(value, list) or len(value) != 2:
        raise _Fault(f"timelimit {value!r} is no pair [hard, soft]")
    return _seconds(value[0]), _seconds(value[1])


def _seconds(value: object) -> float | None:
    if value is None or value == 0:
        return None
    if not isinstance(value, (int, float)) or value != value:
        raise _Fault(f"time limit {value!r} is no number of seconds")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _stamps(fields: dict[str, Any]) -> dict[str, Any]:
    names, stamps = fields.get("stamped_headers"), fields.get("stamps")
    if not names or not isinstance(names, list) or not isinstance(stamps, dict):
        return {}
    return {name: stamps.get(name) for name in names if isinstance(name, str)}


def _whole(value: object) -> int:
    try:
        return int(value or 0)  # type: ignore[call-overload,no-any-return]
    except (TypeError, ValueError, OverflowError):
        return 0


def _maybe_true(value: object) -> bool | None:
    return None if value is None else bool(value)


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(value).encode("utf-8", "backslashreplace").decode()


# Queue keys


def clamp_priority(value: object) -> int:
    """The priority a message counts as; what is no number counts as 0."""
    return max(LOWEST_PRIORITY, min(_whole(value), HIGHEST_PRIORITY))


def queue_key(
    queue: str, priority: object, *, steps: Sequence[int] = PRIORITY_STEPS, separator: str = SEPARATOR
) -> str:
    """The list that messages of this priority wait in: the queue's own name for step 0, else name, separator, step."""
    step = steps[bisect(steps, clamp_priority(priority)) - 1]
    return f"{queue}{separator}{step}" if step else queue
