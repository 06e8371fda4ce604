"""What type checkers see of base classes from libraries without types, so that everything of ours has a known type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


class Untyped:
    """Made with anything, and has anything. Imported under `TYPE_CHECKING` only, in the place of such a class."""

    if TYPE_CHECKING:

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...
