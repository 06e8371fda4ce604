"""Write values as kombu's JSON does: its spaces, its ASCII escapes, its `__type__` envelopes; and read them."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import b2a_base64
from datetime import date, datetime, time
from decimal import Decimal
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fastq.wire.plain import structured, with_text_keys

if TYPE_CHECKING:
    from collections.abc import Callable

#: Type, marker, how the value is written. The order counts: a datetime is a date as well.
_TYPES: tuple[tuple[type, str, Callable[[Any], Any]], ...] = (
    (datetime, "datetime", lambda value: value.isoformat()),
    (date, "date", lambda value: value.isoformat()),
    (time, "time", lambda value: value.isoformat()),
    (Decimal, "decimal", str),
    (UUID, "uuid", lambda value: {"hex": value.hex}),
)


def quote(text: str) -> str:
    """Return `text` as a JSON string, quotes included."""
    return encode_basestring_ascii(text)


def base64_text(body: str) -> str:
    """Return an ASCII body in base64."""
    return b2a_base64(body.encode("ascii"), newline=False).decode("ascii")


def special(value: Any) -> Any:
    """Return what stands for a value that JSON does not know. Raises TypeError for what kombu refuses, too."""
    reducer = getattr(value, "__json__", None)
    if reducer is not None:
        return reducer()
    for kind, marker, write in _TYPES:
        if isinstance(value, kind):
            return {"__type__": marker, "__value__": write(value)}
    if isinstance(value, bytes):
        return _bytes(value)
    return structured(value)


def _bytes(value: bytes) -> dict[str, str]:
    try:
        return {"__type__": "bytes", "__value__": value.decode("utf-8")}
    except UnicodeDecodeError:
        return {"__type__": "base64", "__value__": b64encode(value).decode("ascii")}


def encoder(words: Callable[[Any], Any], *, mended: Callable[[Any], Any] | None = None) -> Callable[[Any], str]:
    """Return the fastest encoder of this interpreter that writes exactly what `json.dumps` writes; `words` returns
    what stands for a value that JSON does not know, `mended` the same for a whole value that was refused otherwise."""
    write = _writer(words)
    if mended is None:
        return write

    def encode(value: Any) -> str:
        try:
            return write(value)
        except TypeError:
            return write(mended(value))

    return encode


def _writer(words: Callable[[Any], Any]) -> Callable[[Any], str]:
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return json.JSONEncoder(default=words).encode
    # json.JSONEncoder.encode makes such an object for each call: most of the time of encoding two numbers.
    # No memory of objects being written (the first argument), so a circular value ends in RecursionError.
    pieces = make(None, words, encode_basestring_ascii, None, ": ", ", ", False, False, True)
    return lambda value: "".join(pieces(value, 0))


encode_text: Callable[[Any], str] = encoder(special, mended=with_text_keys)


# ---------------------------------------------------------------------------- reading

_READ: dict[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": lambda value: UUID(**value),
    "bytes": lambda value: value.encode("utf-8"),
    "base64": b64decode,
}


def loads(text: str | bytes) -> Any:
    """The value that kombu's JSON stands for; a mark that is not known stays as it is. Raises ValueError."""
    return json.loads(text, object_hook=_revive)


def _revive(found: dict[str, Any]) -> Any:
    if found.keys() != {"__type__", "__value__"}:
        return found
    read = _READ.get(found["__type__"])
    return found if read is None else read(found["__value__"])
