"""Events on the wire: what a worker tells monitors, as Celery's dispatcher writes it and its receivers read it.

One message holds one event, or an array of events of one group (`task.multi`). Children and engine write single events
as JSON objects; whatever the serializer of the application, they become its messages here.
"""

from __future__ import annotations

import base64
import json
import pickle
from datetime import datetime, timezone, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from fastq import clock
from fastq.errors import BodyError
from fastq.wire.moment import is_marked_datetime, parse_iso
from fastq.wire.packed import frame_of, is_packed

#: How the receivers of an application may be spoken to, and what the parts of a message are called then. Every receiver
#: of Celery's reads JSON besides.
FORMATS: Final = {
    "json": ("application/json", "utf-8"),
    "pickle": ("application/x-python-serialize", "binary"),
    "msgpack": ("application/x-msgpack", "binary"),
}


def event_head(hostname: str, *, pid: int) -> bytes:
    """What each event of a worker begins with: its node name, the offset to UTC now, the pid of its main process."""
    fields = json.dumps({"hostname": hostname, "utcoffset": clock.utc_offset_hours(), "pid": pid})
    return f'{fields[:-1]}, "clock": '.encode()


def event_message(
    events: bytes, *, kind: str, many: bool, hostname: str, exchange: str, serializer: str = "json"
) -> bytes:
    """The envelope of a message. `events`: JSON objects with commas between; `kind`: their type, or `task-multi`."""
    text = b"[%b]" % events if many else events
    content_type, encoding = FORMATS[serializer]
    body = text if serializer == "json" else _encode(json.loads(text), serializer)
    return _ENVELOPE % (
        base64.b64encode(body),
        encoding.encode(),
        content_type.encode(),
        json.dumps(hostname).encode(),
        json.dumps(exchange).encode(),
        json.dumps(routing_key(kind)).encode(),
        clock.new_uuid().encode(),
    )


#: As kombu writes it, to the byte.
_ENVELOPE: Final = (
    b'{"body": "%b", "content-encoding": "%b", "content-type": "%b", "headers": {"hostname": %b}, "properties": '
    b'{"delivery_mode": 1, "delivery_info": {"exchange": %b, "routing_key": %b}, "priority": 0, '
    b'"body_encoding": "base64", "delivery_tag": "%b"}}'
)


def routing_key(kind: str) -> str:
    """`task-multi` is sent as `task.multi`."""
    return kind.replace("-", ".")


def _encode(value: Any, serializer: str) -> bytes:
    return pickle.dumps(value) if serializer == "pickle" else msgspec.msgpack.encode(value)


# ---------------------------------------------------------------------------- what a message says


def received_fields(raw: bytes, *, zone: tzinfo = timezone.utc) -> dict[str, Any] | None:
    """What task-received says of a message that can be read (`read_header`); None for one whose fields are in its body
    (protocol 1): whoever decodes that can say it. `zone` is that of the application, for its times."""
    try:
        headers = frame_of(raw)["headers"] if is_packed(raw) else json.loads(raw).get("headers") or {}
    except BodyError:
        return None  # nor can a child, which will say so
    if "task" not in headers:
        return None
    return {
        "uuid": headers.get("id"),
        "name": headers.get("shadow") or headers["task"],
        "args": headers.get("argsrepr", ""),
        "kwargs": headers.get("kwargsrepr", ""),
        "root_id": headers.get("root_id"),
        "parent_id": headers.get("parent_id"),
        "retries": headers.get("retries", 0),
        "eta": _moment(headers.get("eta"), zone),
        "expires": _moment(headers.get("expires"), zone),
    }


def _moment(value: Any, zone: tzinfo) -> str | None:
    if value is None:
        return None
    found: datetime = parse_iso(value["__value__"] if is_marked_datetime(value) else value)
    aware = found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)
    return aware.astimezone(zone).isoformat()


def zone_named(name: str) -> tzinfo:
    """The time zone of this name; UTC if nobody knows it."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return timezone.utc


# ---------------------------------------------------------------------------- what others say


def read_event(raw: bytes) -> list[dict[str, Any]]:
    """The events in a message of another worker; an empty list for what cannot be read, or must not be (pickle)."""
    try:
        envelope = json.loads(raw)
        body = base64.b64decode(envelope["body"])
        events = _decode(body, envelope["content-type"])
    except (ValueError, KeyError, TypeError, RecursionError, msgspec.MsgspecError):
        return []
    found = events if isinstance(events, list) else [events]
    return [event for event in found if isinstance(event, dict)]


def _decode(body: bytes, content_type: str) -> Any:
    return msgspec.msgpack.decode(body) if content_type == FORMATS["msgpack"][0] else json.loads(body)
