"""The head of a function without its body: to be called in its place where only the arguments are in question.

A call costs what the call of an empty function does, a tenth of what `inspect.Signature.bind` takes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from inspect import Parameter
from typing import Any

from fastq.app.annotations import signature_of


def anything(*_args: Any, **_kwargs: Any) -> None:
    """The head of a function that takes whatever comes."""


def header_of(function: Callable[..., Any], *, bound: bool = False) -> Callable[..., None]:
    """What takes the arguments that `function` takes, does nothing, and raises its TypeError for others.

    `bound`: callers do not give the first one. What tells nothing of its parameters takes anything. Of a function in a
    wrapper it is the wrapper's arguments that count: it may add some of its own.
    """
    try:
        parameters = list(signature_of(function, follow_wrapped=False).parameters.values())
    except (TypeError, ValueError):  # a builtin, or a callable that lies about itself
        return anything
    namespace: dict[str, Any] = {"__name__": function.__module__}
    # The names are those of parameters, so nothing but a head can come of them.
    exec(f"def head({', '.join(_written(parameters))}): pass", namespace)
    head: Callable[..., None] = namespace["head"]
    head.__qualname__ = getattr(function, "__qualname__", "") or type(function).__qualname__
    return functools.partial(head, None) if bound else head


_STARS: dict[Any, str] = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


def _written(parameters: list[Parameter]) -> Iterator[str]:
    before: Any = None
    for parameter in parameters:
        kind = parameter.kind
        if before is Parameter.POSITIONAL_ONLY and kind is not before:
            yield "/"
        if kind is Parameter.KEYWORD_ONLY and before not in (kind, Parameter.VAR_POSITIONAL):
            yield "*"
        yield _STARS.get(kind, "") + parameter.name + ("" if parameter.default is Parameter.empty else "=None")
        before = kind
    if before is Parameter.POSITIONAL_ONLY:
        yield "/"
