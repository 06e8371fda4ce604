"""The states of a worker and what leads from one to the next. An event that is not in the table is a bug.

The picture in docs/internals/architecture.md is this table.
"""

from __future__ import annotations

import enum

from fastq.errors import ImpossibleEvent


class State(enum.Enum):
    STARTING = "starting"  # the nursery loads the application; the broker is not asked yet
    RUNNING = "running"  # connected or reconnecting; claims, deals, settles
    WARM = "warm"  # claims nothing more, gave back what was not started, lets running tasks finish (--shutdown-timeout)
    SOFT = "soft"  # as WARM, but only for worker_soft_shutdown_timeout seconds, then COLD
    COLD = "cold"  # running tasks have been killed
    STOPPED = "stopped"


class Event(enum.Enum):
    READY = "ready"  # the application is loaded
    TERM = "term"  # finish what runs
    QUIT = "quit"  # don't wait, or not longer than the soft shutdown timeout
    LATE = "late"  # the soft shutdown timeout, or --shutdown-timeout, is over
    DRAINED = "drained"  # nothing runs, everything is told to the broker
    FAILED = "failed"  # the application cannot be loaded, or the nursery cannot be kept alive


S, E = State, Event

TABLE: dict[tuple[State, Event], State] = {
    (S.STARTING, E.READY): S.RUNNING,
    (S.STARTING, E.TERM): S.STOPPED,
    (S.STARTING, E.QUIT): S.STOPPED,
    (S.STARTING, E.FAILED): S.STOPPED,
    (S.RUNNING, E.TERM): S.WARM,
    (S.RUNNING, E.QUIT): S.SOFT,
    (S.RUNNING, E.FAILED): S.COLD,
    (S.WARM, E.TERM): S.WARM,
    (S.WARM, E.QUIT): S.SOFT,
    (S.WARM, E.LATE): S.COLD,
    (S.WARM, E.DRAINED): S.STOPPED,
    (S.WARM, E.FAILED): S.COLD,
    (S.SOFT, E.TERM): S.SOFT,
    (S.SOFT, E.QUIT): S.COLD,
    (S.SOFT, E.LATE): S.COLD,
    (S.SOFT, E.DRAINED): S.STOPPED,
    (S.SOFT, E.FAILED): S.COLD,
    (S.COLD, E.TERM): S.COLD,
    (S.COLD, E.QUIT): S.COLD,
    (S.COLD, E.FAILED): S.COLD,
    (S.COLD, E.DRAINED): S.STOPPED,
    (S.STOPPED, E.TERM): S.STOPPED,
    (S.STOPPED, E.QUIT): S.STOPPED,
}

#: Not to be stopped any more by the states behind them.
STOPPING = frozenset({S.WARM, S.SOFT, S.COLD, S.STOPPED})


def after(state: State, event: Event) -> State:
    """The state that `event` leads to. Raises ImpossibleEvent."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise ImpossibleEvent(f"a worker that is {state.value} met the event {event.value}") from None
