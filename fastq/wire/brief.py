"""Describe arguments the way Celery's `argsrepr` and `kwargsrepr` headers do: short, shallow, never failing.

The rules, as monitors have come to know them:

- The budget (1024 characters) is spent token by token, a token being a bracket, a separator, a key or a value.
  Closing brackets are always written, even when the budget is gone, so the text stays balanced.
- Containers nested `LEVELS` deep show their brackets and an ellipsis.
- Text is quoted with single quotes whatever it contains; only the single quote itself is escaped.
"""

from __future__ import annotations

from decimal import Decimal
from numbers import Number
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: Characters after which the rest is left out. Celery's own value.
LIMIT_CHARS = 1024

#: Depth of containers that are shown. The default of Celery's `task_repr_maxlevels`.
LEVELS = 3

_ELLIPSIS = "..."


def brief(value: object) -> str:
    """Return the representation of `value` that Celery would put into a header."""
    if (text := _plain(value)) is not None:
        return text
    return _Writer(LIMIT_CHARS).write(value)


#: Items of a container that is looked at as a whole. More would cost more than the description.
PLAIN_ITEMS = 50

#: Types that Python writes as the rules above do.
_SIMPLE = frozenset({int, float, bool, type(None)})


def _plain(value: Any) -> str | None:
    """Return the representation of a short container of simple values and plain words, which is Python's own."""
    exact = type(value)
    if (exact is not tuple and exact is not list and exact is not dict) or len(value) > PLAIN_ITEMS:
        return None
    if not all(map(_is_plain, value)) or (exact is dict and not all(map(_is_plain, value.values()))):
        return None
    text = repr(value)
    return text if len(text) < LIMIT_CHARS else None


def _is_plain(value: Any) -> bool:
    if type(value) is str:
        return len(value) < LIMIT_CHARS and value.isprintable() and "'" not in value and "\\" not in value
    return type(value) in _SIMPLE


class _Writer:
    """One description in the making: the pieces so far and what is left of the budget."""

    def __init__(self, budget_chars: int) -> None:
        self._left = budget_chars
        self._pieces: list[str] = []
        self._full = False
        self._open: list[int] = []

    def write(self, value: object) -> str:
        self._value(value, depth=0)
        return "".join(self._pieces)

    def _value(self, value: object, *, depth: int) -> None:
        brackets = None if isinstance(value, (Number, str, bytes, range)) else _brackets(value)
        if brackets is None:
            self._token(lambda: _leaf(value, self._left))
        elif depth >= LEVELS:
            self._token(lambda: f"{brackets[0]}{_ELLIPSIS}{brackets[1]}")
        elif id(value) in self._open:
            self._token(lambda: _clip(_recursion(value), self._left))
        else:
            self._container(value, brackets, depth=depth)

    def _container(self, value: Any, brackets: tuple[str, str], *, depth: int) -> None:
        # A container that would open after the limit is left out with its end; one that is open is always closed.
        if not self._token(lambda: brackets[0]):
            return
        self._open.append(id(value))
        for number, item in enumerate(value.items() if isinstance(value, dict) else value):
            if self._full:
                break
            if number:
                self._token(lambda: ", ")
            self._item(item, depth=depth + 1, keyed=isinstance(value, dict))
        self._open.pop()
        self._put(brackets[1])

    def _item(self, item: Any, *, depth: int, keyed: bool) -> None:
        if not keyed:
            return self._value(item, depth=depth)
        key, value = item
        self._token(lambda: _Writer(self._left).write(key))
        self._token(lambda: ": ")
        return self._value(value, depth=depth)

    def _token(self, text: Callable[[], str]) -> bool:
        """Write one token; false when the budget was gone and it is left out."""
        if self._full:
            return False
        if self._left <= 0:
            self._pieces.append(f", {_ELLIPSIS}")
            self._full = True
            return False
        self._put(text())
        return True

    def _put(self, text: str) -> None:
        self._pieces.append(text)
        self._left -= len(text)


def _brackets(value: object) -> tuple[str, str] | None:
    """Return what opens and closes `value`; nothing for what is no container, and for the empty set."""
    if isinstance(value, tuple):
        return "(", ",)" if len(value) == 1 else ")"
    for kind, opening, closing in ((set, "{", "}"), (frozenset, "{", "}"), (dict, "{", "}"), (list, "[", "]")):
        if isinstance(value, kind):
            return _set_brackets(value) if kind in (set, frozenset) else (opening, closing)
    return None


def _set_brackets(value: Any) -> tuple[str, str] | None:
    if not value:
        return None
    return ("{", "}") if type(value) is set else (f"{type(value).__name__}({{", "})")


def _leaf(value: object, left: int) -> str:
    if isinstance(value, Decimal):
        return _clip(safe_repr(value), left)
    if isinstance(value, Number):
        return _clip(str(value), left)
    if isinstance(value, str):
        return "'" + _clip(value, left).replace("'", "\\'") + "'"
    if isinstance(value, bytes):
        return _bytes(value, left)
    if isinstance(value, (set, frozenset)):
        return _clip(f"{type(value).__name__}()", left)
    return _clip(safe_repr(value), left)


def _bytes(value: bytes, left: int) -> str:
    long = len(value) > left
    chunk = value[:left] if long else value
    try:
        text = chunk.decode("utf-8")
    except UnicodeDecodeError:
        text = chunk.hex()
    return f"b'{text}{_ELLIPSIS if long else ''}'"


def _clip(text: str, left: int) -> str:
    """Cut `text` at the last space that fits, as Celery does; text of exactly the limit is already too long."""
    return text if len(text) < left else text[:left].rsplit(" ", 1)[0] + _ELLIPSIS


def _recursion(value: object) -> str:
    return f"<Recursion on {type(value).__name__} with id={id(value)}>"


def safe_repr(value: object) -> str:
    """What `value` says of itself, or that it cannot."""
    try:
        return repr(value)
    except Exception as exc:  # the edge of user code: a broken __repr__ must not stop a message
        return f"<Unrepresentable {type(value)!r}{id(value):#x}: {exc!r}>"
