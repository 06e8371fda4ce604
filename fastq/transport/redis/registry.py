"""Know the fastq workers of a broker, and which of them are dead.

A worker on another host is dead when its heartbeat has expired. One on this host is asked of the kernel: as long as its
process lives it keeps what it holds, however late its heartbeat is, and once the process is gone nobody waits for a
heartbeat to expire. "This host" means the same boot and the same pid namespace: containers share the first, not the
second, and a pid of another namespace says nothing here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import redis

from fastq import clock
from fastq.transport.redis.keys import Keys

log: logging.Logger = logging.getLogger(__name__)

Presence = Literal["alive", "gone", "elsewhere"]


class RegistryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A worker, as it describes itself in the registry."""

    worker: str = ""
    node: str = ""
    host: str = ""
    boot_id: str = ""
    #: Inode of the pid namespace; 0 if unknown, and then the pid is not looked at.
    pid_ns: int = 0
    pid: int = 0
    #: The kernel's start time of the process, in clock ticks since boot: tells it from a later one of the same pid.
    pid_start: int = 0
    #: Name of the shared segment with the rings.
    segment: str = ""
    #: Queue keys it claims from.
    keys: tuple[str, ...] = ()
    #: Seconds since 1970.
    started: float = 0.0

    def encode(self) -> bytes:
        """As it is stored."""
        return msgspec.json.encode(self)


def describe_process(
    worker: str, *, node: str, keys: Sequence[str], segment: str = "", pid: int | None = None
) -> RegistryEntry:
    """The entry of a worker whose engine is this process, or `pid`."""
    pid = pid or os.getpid()
    return RegistryEntry(
        worker=worker,
        node=node,
        host=os.uname().nodename,
        boot_id=_boot_id(),
        pid_ns=_pid_namespace(),
        pid=pid,
        pid_start=_start_ticks(pid) or 0,
        segment=segment,
        keys=tuple(keys),
        started=clock.now(),
    )


def read_registry(client: redis.Redis, *, keys: Keys) -> list[RegistryEntry]:
    """All registered workers, dead or alive, by name."""
    asked: Any = client
    found = [_decode(name.decode("utf-8", "replace"), raw) for name, raw in asked.hgetall(keys.workers).items()]
    return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.worker)


def dead_workers(client: redis.Redis, *, keys: Keys) -> list[RegistryEntry]:
    """Registered workers that will not come back for what they hold."""
    entries = read_registry(client, keys=keys)
    pipe: Any = client.pipeline(transaction=False)
    with pipe:
        for entry in entries:
            pipe.exists(keys.heartbeat(entry.worker))
        beating = pipe.execute()
    return [entry for entry, beats in zip(entries, beating, strict=True) if is_dead(entry, beats=bool(beats))]


def is_dead(entry: RegistryEntry, *, beats: bool) -> bool:
    """Whether its claims may be restored; `beats` if its heartbeat key exists."""
    seen = presence(entry)
    return seen == "gone" if seen != "elsewhere" else not beats


def presence(entry: RegistryEntry) -> Presence:
    """What the kernel of this host knows of the worker's engine."""
    if not (entry.pid and entry.pid_start and entry.pid_ns):
        return "elsewhere"
    if (entry.boot_id, entry.pid_ns) != (_boot_id(), _pid_namespace()):
        return "elsewhere"
    return "alive" if _start_ticks(entry.pid) == entry.pid_start else "gone"


def _decode(worker: str, raw: bytes) -> RegistryEntry | None:
    try:
        return msgspec.structs.replace(msgspec.json.decode(raw, type=RegistryEntry), worker=worker)
    except (msgspec.MsgspecError, UnicodeError) as error:
        # `fastq recover` finds its claims by their names.
        log.error("Registry entry of worker %s cannot be read (%s): %.200r", worker, error, raw)
        return None


def _boot_id() -> str:
    return _read("/proc/sys/kernel/random/boot_id").strip()


def _pid_namespace() -> int:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def _start_ticks(pid: int) -> int | None:
    """Start time of a living process; None if there is none, or only its zombie."""
    # The name, in parentheses, may hold spaces and parentheses; state and start are the 1st and 20th field behind it.
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in ("Z", "X"):
        return None
    return int(fields[19])


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
