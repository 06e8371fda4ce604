"""Control commands about what is told to monitors and to other workers."""

# The parameters are Celery's: clients of any version may send more of them than are used.
# ruff: noqa: A002

from __future__ import annotations

from typing import Any

from fastq.worker.cluster.actions import Reply
from fastq.worker.cluster.commands.state import State, ok


def enable_events(state: State) -> Reply:
    """Tell worker(s) to send task-related events."""
    return ok(state.events.enable())


def disable_events(state: State) -> Reply:
    """Tell worker(s) to stop sending task-related events."""
    return ok(state.events.disable())


def heartbeat(state: State) -> None:
    """Tell worker(s) to send event heartbeat immediately."""
    state.events.heartbeat()


def election(state: State, id: str, topic: str, action: Any = None, **kwargs: Any) -> None:
    """Hold election."""
    if state.election is not None:
        state.election(id, topic, action)
