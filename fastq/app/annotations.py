"""Read the parameters and the annotations of a task's function, whether or not all names in them exist.

Python 3.14 evaluates annotations when they are read. A name that is imported for type checkers only (TYPE_CHECKING), or
defined further below, then raises NameError from `inspect.signature`, although it takes nothing from the call itself.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable
from typing import Any


def signature_of(function: Callable[..., Any], *, follow_wrapped: bool = True) -> inspect.Signature:
    """Its parameters; what their annotations hold is left open. Raises what inspect.signature raises, but NameError."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, follow_wrapped=follow_wrapped, annotation_format=Format.FORWARDREF)
    return inspect.signature(function, follow_wrapped=follow_wrapped)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of its arguments, and of what it returns as "return": those that can be looked at here."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:
        # A name that exists for type checkers only.
        return {name: hint for name, hint in _given(function).items() if _is_whole(hint)}


def _given(function: Callable[..., Any]) -> dict[str, Any]:
    if sys.version_info >= (3, 14):
        from annotationlib import Format, get_annotations

        return get_annotations(function, format=Format.FORWARDREF)
    return getattr(function, "__annotations__", {})


def _is_whole(hint: Any) -> bool:
    """Whether no part of it is a mere name."""
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return True
    if origin is typing.Annotated:
        return _is_whole(typing.get_args(hint)[0])
    if isinstance(hint, (list, tuple)):  # the arguments of a Callable
        return all(_is_whole(part) for part in hint)
    return not isinstance(hint, (str, typing.ForwardRef)) and all(_is_whole(part) for part in typing.get_args(hint))
