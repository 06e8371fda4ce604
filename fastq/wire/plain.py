"""What stands for values that neither wire has a word for: Structs, dataclasses, models, enumerations, sets, paths; and
for keys of maps that are no text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

#: Types that both wires have a word for: inside of a larger value they are left as they are.
_KEPT: Final = (datetime, date, time, Decimal, UUID, bytes)

#: Modules whose types are their text, and can be made of it again: pathlib, ipaddress, pydantic's addresses.
TEXTS: Final = ("pathlib", "pathlib._local", "ipaddress", "pydantic.networks", "pydantic_core._pydantic_core")


def structured(value: Any) -> Any:
    """The fields of a Struct, a dataclass, a model; the value of an enumeration; a set as a list; the text of a path or
    an address. Raises TypeError for anything else."""
    if hasattr(value, "model_dump"):
        return with_text_keys(_unknown(value))
    return with_text_keys(msgspec.to_builtins(value, builtin_types=_KEPT, enc_hook=_unknown))


def _unknown(value: Any) -> Any:
    """What msgspec does not know."""
    reducer = getattr(value, "__json__", None)
    if reducer is not None:
        return reducer()
    dump = getattr(value, "model_dump", None)  # pydantic's
    if dump is not None:
        return dump(round_trip=True)
    if type(value).__module__ in TEXTS:
        return str(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def with_text_keys(value: Any) -> Any:
    """The same value; keys that JSON does not know are text. Raises TypeError for those that no text stands for."""
    if isinstance(value, dict):
        return {text_key(key): with_text_keys(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_text_keys(item) for item in value]
    return value


def text_key(key: Any) -> Any:
    """A key that JSON knows as it is; text for a moment, a UUID, a Decimal, an enumeration."""
    if key is None or isinstance(key, (str, bool, int, float)):
        return key
    try:
        made: Mapping[Any, Any] = msgspec.to_builtins({key: None}, str_keys=True)
    except TypeError:
        kind = type(key).__name__
        raise TypeError(f"keys must be str, int, float, bool or None, not {kind}") from None
    return next(iter(made))
