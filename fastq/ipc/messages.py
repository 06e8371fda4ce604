"""What engine and nursery say to each other: a closed list of tagged structs."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from fastq.config.settings import WorkerOptions
from fastq.program import ProgramInfo


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Every message carries the name of its class."""


# ---------------------------------------------------------------------------- engine -> nursery


class Start(_Message, frozen=True, kw_only=True):
    """The first message: load the application and get ready to fork."""

    options: WorkerOptions
    #: Path of the shared segment.
    segment: str
    #: Descriptor, inherited by the nursery, that wakes the engine.
    eventfd: int
    #: Unique name of this worker.
    worker: str
    #: Names of tasks that keep their numbers, in the order of these.
    tasks: list[str] = []


class Fork(_Message, frozen=True, kw_only=True):
    """Fork a child for this slot; after `max_tasks` tasks it leaves."""

    slot: int
    max_tasks: int | None = None


class Notify(_Message, frozen=True, kw_only=True):
    """Send a signal of the main process, such as worker_ready."""

    signal: str
    arguments: dict[str, Any] = {}


class Remember(_Message, frozen=True, kw_only=True):
    """Keep these revoked ids in the state database."""

    revoked: list[str]


class Aside(_Message, frozen=True, kw_only=True):
    """Fork a process that has no slot and runs no tasks. "desk": it answers questions (`fastq.program.Question`).

    "beat": it runs the application's schedule.
    """

    #: The engine's name for it.
    number: int
    kind: Literal["desk", "beat"] = "desk"


class Stop(_Message, frozen=True, kw_only=True):
    """Send worker_shutdown and end. Children that are left are killed."""


# ---------------------------------------------------------------------------- nursery -> engine


class Ready(_Message, frozen=True, kw_only=True):
    """The application is loaded; this is what it is."""

    program: ProgramInfo


class Failed(_Message, frozen=True, kw_only=True):
    """It cannot be loaded: one line for the operator, and what the worker exits with."""

    message: str
    exit_code: int = 1
    #: The traceback, for the debug log.
    details: str = ""


class Forked(_Message, frozen=True, kw_only=True):
    """The child of this slot lives. `waker`: with this message comes the eventfd by which its event loop is woken."""

    slot: int
    pid: int
    waker: bool = False


class Exited(_Message, frozen=True, kw_only=True):
    """A child is gone. `status` is the raw status of wait4(2); `maxrss_kib` its peak memory."""

    slot: int
    pid: int
    status: int
    maxrss_kib: int


class AsideForked(_Message, frozen=True, kw_only=True):
    """The process beside lives. A descriptor comes with the message: the engine's end of a socketpair."""

    number: int
    pid: int


class AsideExited(_Message, frozen=True, kw_only=True):
    """It is gone, or (pid 0) could not be forked."""

    number: int
    pid: int
    status: int


ToNursery: TypeAlias = Start | Fork | Notify | Remember | Aside | Stop
ToEngine: TypeAlias = Ready | Failed | Forked | Exited | AsideForked | AsideExited
