"""Mark a message as redelivered, changing nothing else in it. One of wire "fastq" becomes an envelope by that."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from fastq import clock
from fastq.errors import EnvelopeError, PeerError
from fastq.wire.packed import is_packed, to_envelope

_Raws = dict[str, msgspec.Raw]

#: Splits one object into its fields and leaves each as the bytes it was written with.
_split: Final = msgspec.json.Decoder(_Raws).decode

_TRUE: Final = msgspec.Raw(b"true")
_EMPTY: Final = msgspec.Raw(b"{}")


def mark_redelivered(raw: bytes, tag: str | None = None) -> bytes:
    """The same message as a restored one: both redelivered flags set, and a delivery tag of its own.

    With the old tag, a late acknowledgement of the first delivery would delete the second one. `tag=None` makes a new
    one. Raises EnvelopeError if the entry has no properties to mark; whoever restores pushes it back as it is then.
    """
    fresh = tag if tag is not None else clock.new_uuid()
    if is_packed(raw):
        raw = _unpacked(raw)
    try:
        return _mark_split(raw, fresh)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        # msgspec is stricter than what Celery writes and reads: NaN, lone surrogates, null headers.
        return _mark_parsed(raw, fresh)


def _unpacked(raw: bytes) -> bytes:
    try:
        return to_envelope(raw)
    except PeerError as error:
        raise EnvelopeError(f"it cannot be marked as redelivered: {error}", raw=raw) from error


def _mark_split(raw: bytes, tag: str) -> bytes:
    envelope = _split(raw)
    properties = _split(envelope["properties"]) if "properties" in envelope else _no_properties(raw)
    if "delivery_info" in properties:
        properties["delivery_info"] = _flag(properties["delivery_info"])
    properties["delivery_tag"] = msgspec.Raw(json.dumps(tag).encode())
    envelope["headers"] = _flag(envelope.get("headers", _EMPTY))
    envelope["properties"] = _join(properties)
    return bytes(_join(envelope))


def _flag(holder: msgspec.Raw) -> msgspec.Raw:
    written = bytes(holder)
    if b"redelivered" in written or not written.startswith(b"{"):
        return _join(_split(holder) | {"redelivered": _TRUE})
    # Appended without looking at the other fields: should one of them be the same name in escapes, the last one counts.
    inside = written[1:-1].rstrip()
    return msgspec.Raw(b'{%b, "redelivered": true}' % inside if inside else b'{"redelivered": true}')


def _join(fields: _Raws) -> msgspec.Raw:
    """One object in the style of Python's json, which is kombu's."""
    parts = [b"%b: %b" % (json.dumps(name).encode(), value) for name, value in fields.items()]
    return msgspec.Raw(b"{%b}" % b", ".join(parts))


def _mark_parsed(raw: bytes, tag: str) -> bytes:
    try:
        envelope = json.loads(raw.decode())
        # Markers of kombu's JSON ({"__type__": ...}) stay plain objects here, and so come out as they went in.
        return json.dumps(_marked(envelope, tag, raw=raw)).encode()
    except (ValueError, RecursionError) as error:
        raise EnvelopeError(f"it cannot be marked as redelivered: it is no JSON text: {error}", raw=raw) from error


def _marked(envelope: object, tag: str, *, raw: bytes) -> dict[str, Any]:
    if not isinstance(envelope, dict) or not isinstance(envelope.get("properties"), dict):
        _no_properties(raw)
    assert isinstance(envelope, dict)
    properties: dict[str, Any] = envelope["properties"]
    if isinstance(envelope.get("headers") or {}, dict):
        envelope["headers"] = (envelope.get("headers") or {}) | {"redelivered": True}
    if isinstance(properties.get("delivery_info"), dict):
        properties["delivery_info"]["redelivered"] = True
    properties["delivery_tag"] = tag
    return envelope


def _no_properties(raw: bytes) -> Any:
    raise EnvelopeError("it cannot be marked as redelivered: the envelope has no properties", raw=raw)
