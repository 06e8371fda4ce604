"""This worker's lease on what it holds: a registry entry and a heartbeat, made at every connection.

A worker is alive for the others as long as its heartbeat key exists, and for those on its own host as long as its
process does. The lease is as long as a worker may be silent before its messages go to others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import redis

from fastq.errors import SurroundingsError
from fastq.ipc.segment import dead_segment, remove_files
from fastq.transport.connect import Endpoint
from fastq.transport.redis import commands
from fastq.transport.redis.binding import Binding, declare_bindings
from fastq.transport.redis.deadletters import trim
from fastq.transport.redis.keys import Keys
from fastq.transport.redis.recover import MAX_CRASHES, Restored, restore_worker
from fastq.transport.redis.registry import RegistryEntry, dead_workers, presence
from fastq.transport.redis.slots import SWEEP, sweep_words
from fastq.transport.redis.unacked import restore_unacked

logger: logging.Logger = logging.getLogger(__name__)

#: Seconds a worker may be silent before others take its messages: five heartbeats.
LEASE_S = 10

#: Seconds between heartbeats; Celery's own interval.
BEAT_S = 2.0

#: Seconds between looks at whether another worker has died.
LOOK_S = 2.0

#: Seconds between sweeps of what stock workers have left beyond their visibility timeout. kombu's: about 100.
SWEEP_S = 60.0

#: Seconds for which is remembered what a worker ran last: so long its messages may wait to be restored.
RUNNING_S = 24 * 3600

#: Seconds after which a rare command is given up.
TIMEOUT_S = 10.0


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker knew of this worker when it connected."""

    #: Number of the last flush that was applied.
    applied: int
    #: By claim list that nobody had answered for: its entries, newest first.
    found: dict[bytes, list[bytes]]
    #: Another worker took this one for dead and gave its messages to others.
    dispossessed: bool
    #: How many of this worker's queue keys are in the registry now.
    keys: int


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a look at the others."""

    restored: list[Restored]
    #: How many messages wait for a slot, by task; of the tasks that have slots.
    waiting: dict[str, int]


class Lease:
    """What is said to the broker about this worker."""

    def __init__(self, me: RegistryEntry, *, keys: Keys, bindings: Sequence[Binding]) -> None:
        self.me: RegistryEntry = me
        self.keys: Keys = keys
        self._bindings = list(bindings)
        self._registered = False

    def extend(self, keys: Sequence[str], bindings: Sequence[Binding]) -> None:
        """Speak of more queue keys (without the prefix) and bindings, from the next `enter` or `register` on."""
        self._bindings = [*self._bindings, *bindings]
        self.me = msgspec.structs.replace(self.me, keys=(*self.me.keys, *keys))

    def register(self, client: redis.Redis) -> int:
        """Write the registry entry anew, and say how many keys are in it. Blocks; for an errand.

        Raises SurroundingsError if the entry is gone: others have taken this worker for dead.
        """
        me, bindings = self.me, self._bindings
        written = False
        while not written:
            written = self._rewrite(client, me)
        declare_bindings(client, bindings, keys=self.keys)
        return len(me.keys)

    def _rewrite(self, client: redis.Redis, me: RegistryEntry) -> bool:
        with client.pipeline(transaction=True) as opened:
            pipe: Any = opened
            try:
                pipe.watch(self.keys.workers)
                if not pipe.hexists(self.keys.workers, me.worker):
                    raise SurroundingsError("this worker is not in the registry any more: others took it for dead")
                pipe.multi()
                pipe.hset(self.keys.workers, me.worker, me.encode())
                pipe.execute()
            except redis.WatchError:
                return False  # another worker came or went
        return True

    def enter(self, client: redis.Redis, claims: Iterable[bytes]) -> Welcome:
        """Register, or find out what has happened meanwhile. Blocks; for an errand."""
        asked: Any = client
        me, bindings = self.me, self._bindings
        known = bool(asked.hexists(self.keys.workers, self.me.worker))
        applied = int(asked.get(self.keys.flush(self.me.worker)) or 0)
        dispossessed = self._registered and not known and not self._holds_claims(client)
        both: Any = client.pipeline(transaction=True)  # one without the other would look like a dead worker
        both.set(self.keys.heartbeat(self.me.worker), 1, ex=LEASE_S)
        both.hset(self.keys.workers, me.worker, me.encode())
        both.execute()
        found = {claim: list(asked.lrange(claim, 0, -1)) for claim in claims}
        declare_bindings(client, bindings, keys=self.keys)
        self._registered = True
        return Welcome(applied=applied, found=found, dispossessed=dispossessed, keys=len(me.keys))

    def _holds_claims(self, client: redis.Redis) -> bool:
        asked: Any = client
        return any(asked.exists(self.keys.claims(key, self.me.worker)) for key in self.me.keys)

    def beat(self) -> tuple[bytes, int]:
        """The heartbeat as bytes, and the number of its replies."""
        return commands.pack("SET", self.keys.heartbeat(self.me.worker), 1, "EX", LEASE_S), 1

    def say_running(self, places: Sequence[tuple[int, int, int]]) -> tuple[bytes, int]:
        """What this worker runs under late acknowledgement, for whoever restores it elsewhere: commands, and the number
        of their replies."""
        key = self.keys.running(self.me.worker)
        if not places:
            return commands.pack("DEL", key), 1
        return commands.pack("SET", key, msgspec.json.encode(places), "EX", RUNNING_S), 1

    def leave(self, client: redis.Redis) -> None:
        """Take this worker off the registry; it holds nothing any more."""
        pipe: Any = client.pipeline(transaction=True)
        pipe.hdel(self.keys.workers, self.me.worker)
        worker = self.me.worker
        claims = [self.keys.claims(key, worker) for key in self.me.keys]  # none, where all queues were cancelled
        pipe.delete(self.keys.heartbeat(worker), self.keys.flush(worker), self.keys.running(worker), *claims)
        pipe.execute()


class Janitor:
    """Puts back what dead workers have left: fastq's by their leases, stock workers' by kombu's rules."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        keys: Keys,
        visibility_timeout_s: float,
        restore_limit: int | None,
        queue_keys: Callable[[], Sequence[str]] = tuple,
        max_crashes: int = MAX_CRASHES,
    ) -> None:
        self._endpoint, self._keys, self._max_crashes = endpoint, keys, max_crashes
        self._queue_keys = queue_keys
        self._visibility_timeout_s, self._restore_limit = visibility_timeout_s, restore_limit
        self._client: redis.Redis | None = None

    def look(self, *, far: bool, slots: Sequence[str] = ()) -> Look:
        """Restore dead fastq workers; only those of this host unless `far`. Let in who waits for slots that they had.
        `slots`: tasks that have any. Blocks; for an errand."""
        client = self._connected()
        dead = dead_workers(client, keys=self._keys)
        waiting = self._sweep_slots(client, slots) if slots else {}
        restored = [self._restore(client, entry) for entry in dead if far or presence(entry) == "gone"]
        return Look(restored=restored, waiting=waiting)

    def _sweep_slots(self, client: redis.Redis, tasks: Sequence[str]) -> dict[str, int]:
        asked: Any = client
        flat = asked.eval(SWEEP, *sweep_words(self._keys))
        found = dict(zip(flat[::2], flat[1::2], strict=True))
        return {task: int(found.get(task.encode(), 0)) for task in tasks}

    def sweep(self) -> int:
        """Restore what stock workers hold beyond the visibility timeout, and drop dead letters that are too old or too
        many. Blocks; for an errand."""
        client = self._connected()
        trim(client, self._queue_keys(), keys=self._keys)
        return restore_unacked(
            self._connected(),
            keys=self._keys,
            visibility_timeout_s=self._visibility_timeout_s,
            limit=self._restore_limit,
        )

    def _connected(self) -> redis.Redis:
        if self._client is None:
            self._client = self._endpoint.client(timeout_s=TIMEOUT_S)
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _restore(self, client: redis.Redis, entry: RegistryEntry) -> Restored:
        restored = restore_dead(client, entry, self._keys, max_crashes=self._max_crashes)
        told = restored.restored or restored.started or restored.quarantined
        level = logging.WARNING if told else logging.INFO
        logger.log(level, "Worker %s is dead. Its messages: %s", entry.node or entry.worker, restored)
        return restored


def restore_dead(client: redis.Redis, entry: RegistryEntry, keys: Keys, *, max_crashes: int = MAX_CRASHES) -> Restored:
    """Put back what a dead worker held; what its segment says was started under early acknowledgement, if it is here,
    is not run again. What it ran under late acknowledgement is suspected of its death: by the segment, or else by what
    the worker said last."""
    with dead_segment(entry.segment) as segment:
        started: set[tuple[str, int, int]] | None = None
        if segment is not None:
            started = _places(segment.core.started_unconfirmed(), entry)
            suspects = _places(segment.core.suspects(), entry)
        else:
            suspects = _places(read_running(client, entry.worker, keys=keys), entry)
        restored = restore_worker(
            client, entry, keys=keys, started=_told(started), suspects=suspects, max_crashes=max_crashes
        )
        if segment is not None and not restored.came_back:
            remove_files(segment.path)
    return restored


def _places(found: Iterable[tuple[int, int, int]], entry: RegistryEntry) -> set[tuple[str, int, int]]:
    return {(entry.keys[key], number, position) for key, number, position in found if key < len(entry.keys)}


def read_running(client: redis.Redis, worker: str, *, keys: Keys) -> list[tuple[int, int, int]]:
    """What a worker has said that it runs under late acknowledgement. Blocks."""
    asked: Any = client
    told = asked.get(keys.running(worker))
    return msgspec.json.decode(told, type=list[tuple[int, int, int]]) if told else []


def _told(started: set[tuple[str, int, int]] | None) -> Callable[[RegistryEntry], set[tuple[str, int, int]] | None]:
    return lambda _entry: started
