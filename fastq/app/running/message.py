"""Open a message for the task it names: arguments, what follows it, and what its headers say."""

from __future__ import annotations

import base64
import importlib
import json
from typing import TYPE_CHECKING, Any

import msgspec

from fastq.errors import BodyError, ContentRefused
from fastq.wire.envelope import JSON, Header, read_header
from fastq.wire.kombu_json import loads
from fastq.wire.packed import as_json

if TYPE_CHECKING:
    from fastq.program import Door


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message, opened."""

    raw: bytes
    header: Header
    #: All headers, those of the application's own among them.
    headers: dict[str, Any]
    properties: dict[str, Any]
    args: list[Any]
    kwargs: dict[str, Any]
    #: callbacks, errbacks, chain, chord; empty if there is none of them.
    embed: dict[str, Any]


def open_message(raw: bytes) -> Message:
    """Raises EnvelopeError, HeaderError or BodyError."""
    written = as_json(raw)
    header, envelope = read_header(written), json.loads(written)
    args, kwargs, embed = _body(envelope, header, raw)
    embed = embed if any(embed.values()) else {}
    return Message(
        raw=raw,
        header=header,
        headers=envelope.get("headers") or {},
        properties=envelope["properties"],
        args=args,
        kwargs=kwargs,
        embed=embed,
    )


def queue_of(port: Door, header: Header) -> str | None:
    """The queue that the current message was claimed from. Its routing key may be that of an exchange."""
    return port.queue.decode("utf-8", "replace") or header.routing_key or None


def _body(envelope: dict[str, Any], header: Header, raw: bytes) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    if header.content_type != JSON:
        kind = header.content_type
        raise ContentRefused(f"its body is {kind}; a native application reads {JSON} only", raw=raw)
    text = envelope["body"]
    try:
        written = base64.b64decode(text) if header.body_encoding == "base64" else text
        body = loads(_decompressed(written, header.compression, raw) if header.compression else written)
    except (ValueError, RecursionError) as error:
        raise BodyError(f"its body cannot be decoded: {error}", raw=raw) from error
    if header.protocol == 1:
        found = (body.get("args") or [], body.get("kwargs") or {}, _embedded(body))
    elif isinstance(body, list) and len(body) == 3:
        found = (body[0], body[1], body[2] or {})
    else:
        raise BodyError("its body is no array of arguments, keyword arguments and what follows", raw=raw)
    if not isinstance(found[0], list) or not isinstance(found[1], dict) or not isinstance(found[2], dict):
        raise BodyError("its arguments are no array, or its keyword arguments no object", raw=raw)
    return found


def _decompressed(body: bytes | str, kind: str, raw: bytes) -> bytes:
    """As kombu compresses: its "gzip" and "zlib" are the same, and need no header of gzip."""
    name = _DECOMPRESSORS.get(kind)
    if name is None:
        known = ", ".join(_DECOMPRESSORS)
        raise ContentRefused(f"its body is compressed with {kind}; a native application reads {known}", raw=raw)
    try:
        found: bytes = importlib.import_module(name).decompress(body)
        return found
    except Exception as error:  # each module has errors of its own
        raise BodyError(f"its body, {kind}, cannot be decompressed: {error}", raw=raw) from error


#: What kombu calls them, and the modules of Python that read them.
_DECOMPRESSORS = {"application/x-gzip": "zlib", "application/x-bz2": "bz2", "application/x-lzma": "lzma"}


def _embedded(body: dict[str, Any]) -> dict[str, Any]:
    """What follows a task of protocol 1."""
    return {name: body.get(name) for name in ("callbacks", "errbacks", "chord")} | {"chain": None}
