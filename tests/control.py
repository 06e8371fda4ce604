"""Ask a worker by remote control, as an operator does."""

from __future__ import annotations

from typing import Any

from tests.eventually import eventually
from tests.fix_lab import Lab


def ask(lab: Lab, method: str, *args: Any, **named: Any) -> Any:
    """What the lab's only worker answers to a method of `app.control`."""
    replies = eventually(lambda: getattr(lab.app.control, method)(*args, reply=True, limit=1, timeout=10, **named))
    assert len(replies) == 1
    [(_node, reply)] = replies[0].items()
    return reply
