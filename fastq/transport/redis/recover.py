"""Put what dead workers held back to the front of its queues, in the order it had, none lost and none twice.

Every step is one transaction that holds only if nobody else touched the claim list meanwhile and its worker did not
come back: the heartbeat and the list are watched, looked at, and then moved. Two restorers may work on the same worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final

import msgspec
import redis
from redis.exceptions import RedisError, WatchError

from fastq import clock
from fastq.errors import EnvelopeError
from fastq.transport.connect import Endpoint
from fastq.transport.redis.deadletters import note_crash, read_deaths
from fastq.transport.redis.keys import Keys
from fastq.transport.redis.registry import RegistryEntry, dead_workers, is_dead, read_registry
from fastq.transport.redis.unacked import restore_unacked
from fastq.transport.urls import Tls
from fastq.wire.deadletter import DeadLetter, Death, identity
from fastq.wire.redelivery import mark_redelivered

log: logging.Logger = logging.getLogger(__name__)

#: Tells which messages of a dead worker were started under early acknowledgement: (queue key, claim number, position).
#: None if it cannot be known here, because the worker's shared segment is not on this host.
Started = Callable[[RegistryEntry], Container[tuple[str, int, int]] | None]

#: Crashes after which a message is put aside; Celery's users may have none.
MAX_CRASHES: Final = 3

#: Puts back what one dead worker held.
Restore = Callable[[redis.Redis, RegistryEntry, Keys], "Restored"]

#: Messages moved in one transaction, and their size: a server drops clients that send more than 1 GB at once.
_CHUNK: Final = 128
_CHUNK_BYTES: Final = 32 * 1024 * 1024

#: A settled message of an unfinished batch.
_TOMBSTONE: Final = b""

#: Transactions on one list that may fail because another restorer was faster. Each failure is somebody's progress.
_TRIES: Final = 100


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one worker's messages."""

    worker: str
    #: Put back on their queues.
    restored: int = 0
    #: Not put back: they were started under early acknowledgement.
    started: int = 0
    #: Still claimed: it came back, or a queue's key holds something else than a list.
    left: int = 0
    came_back: bool = False
    #: Put aside, because they may have ended so many processes: the message, and its deaths.
    quarantined: tuple[tuple[bytes, tuple[Death, ...]], ...] = ()

    def __str__(self) -> str:
        words = [f"{self.restored} put back"]
        words += [f"{self.started} not run again because they were started"] if self.started else []
        words += [f"{len(self.quarantined)} put aside (see `fastq dlq`)"] if self.quarantined else []
        words += [f"{self.left} left where they are"] if self.left else []
        words += ["it came back"] if self.came_back else []
        return f"{self.worker}: {', '.join(words)}"


class RecoverReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `recover_all` did."""

    workers: tuple[Restored, ...] = ()
    #: Workers that live, whose messages stay where they are.
    alive: int = 0
    #: Messages of stock workers beyond their visibility timeout; None if it was not given, and they were not looked at.
    unacked: int | None = None

    def __str__(self) -> str:
        lines = [str(worker) for worker in self.workers] or ["No dead fastq worker holds messages."]
        if self.unacked is not None:
            lines.append(f"stock Celery workers: {self.unacked} put back after their visibility timeout")
        lines.append(f"{self.alive} living fastq workers keep theirs")
        return "\n".join(lines)


class _CameBack(Exception):
    """The worker lives after all."""


def recover_all(
    url: str | Sequence[str],
    transport_options: Mapping[str, Any] | None = None,
    *,
    use_ssl: Tls | bool | None = None,
    restore: Restore | None = None,
) -> RecoverReport:
    """Restore every dead worker of a broker, with no worker running. Raises BrokerUnavailable, BrokerRefused.

    `restore` puts back what one worker held, by default `restore_worker` without knowledge of what it had started.

    Stock workers' messages are restored too if `transport_options` says their `visibility_timeout`: a guess that is too
    short would run tasks twice.
    """
    options = dict(transport_options or {})
    keys = Keys.from_options(options)
    endpoint = Endpoint.parse(url, transport_options=options, use_ssl=use_ssl)
    endpoint.open().close()  # finds the living one of several addresses, and says what is wrong
    client = endpoint.client()
    try:
        dead = [*dead_workers(client, keys=keys), *_unregistered(client, keys=keys)]
        return RecoverReport(
            workers=tuple((restore or _restore_blindly)(client, worker, keys) for worker in dead),
            alive=len(read_registry(client, keys=keys)),
            unacked=_restore_stock(client, options, keys=keys),
        )
    except RedisError as error:
        raise endpoint.explain(error) from error
    finally:
        client.close()


def _restore_blindly(client: redis.Redis, worker: RegistryEntry, keys: Keys) -> Restored:
    return restore_worker(client, worker, keys=keys)


def _restore_stock(client: redis.Redis, options: Mapping[str, Any], *, keys: Keys) -> int | None:
    timeout_s = options.get("visibility_timeout")
    if timeout_s is None:
        return None
    return restore_unacked(client, keys=keys, visibility_timeout_s=float(timeout_s))


def _unregistered(client: redis.Redis, *, keys: Keys) -> list[RegistryEntry]:
    """Workers that only their claims still speak of: somebody deleted the registry, or it could not be read."""
    asked: Any = client
    known = {entry.worker for entry in read_registry(client, keys=keys)}
    held: dict[str, list[str]] = {}
    for key in asked.scan_iter(match=_glob(keys.prefix) + "fastq:claims:*", count=1000):
        parsed = keys.parse_claims(key)
        if parsed is not None and parsed[1] not in known and not asked.exists(keys.heartbeat(parsed[1])):
            held.setdefault(parsed[1], []).append(parsed[0])
    return [RegistryEntry(worker=worker, keys=tuple(queues)) for worker, queues in sorted(held.items())]


def _glob(text: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]\\^" else c for c in text)


# One worker


def restore_worker(
    client: redis.Redis,
    worker: RegistryEntry,
    *,
    keys: Keys,
    started: Started | None = None,
    suspects: Container[tuple[str, int, int]] = (),
    max_crashes: int = MAX_CRASHES,
) -> Restored:
    """Put back what a dead worker held, and forget it when nothing is left. Stops when it turns out to live.

    `suspects` is what it ran when it died, by queue key, claim number and position, as far as that is known: a crash is
    counted for each, in the step that puts it back. The last of `max_crashes` puts it aside instead; 0 is for never.
    """
    work = _Work(client, worker, keys=keys, started=started(worker) if started else None)
    work.suspects, work.max_crashes = suspects if max_crashes else (), max_crashes
    try:
        for queue_key in worker.keys:
            work.restore_queue(queue_key)
        work.forget()
    except _CameBack:
        log.warning("Worker %s came back while its messages were restored; the rest is its own", worker.worker)
        return work.report(came_back=True)
    report = work.report()
    log.warning("Restored what a dead worker held: %s", report)
    return report


class _Work:
    """The restoring of one worker: what it is about, and what was done."""

    def __init__(
        self,
        client: redis.Redis,
        worker: RegistryEntry,
        *,
        keys: Keys,
        started: Container[tuple[str, int, int]] | None,
    ) -> None:
        self.client: Any = client
        self.worker = worker
        self.keys = keys
        self.was_started = started if started is not None else ()
        self.heartbeat = keys.heartbeat(worker.worker)
        self.restored = self.started = self.left = 0
        self.suspects: Container[tuple[str, int, int]] = ()
        self.max_crashes = 0
        self.quarantined: list[tuple[bytes, tuple[Death, ...]]] = []

    def report(self, *, came_back: bool = False) -> Restored:
        return Restored(
            worker=self.worker.worker,
            restored=self.restored,
            started=self.started,
            left=self.left,
            came_back=came_back,
            quarantined=tuple(self.quarantined),
        )

    def restore_queue(self, queue_key: str) -> None:
        """The newest claim list first: what is pushed last is popped first, and that must be the oldest."""
        index = self.keys.claims(queue_key, self.worker.worker)
        for number in sorted((int(n) for n in self.client.smembers(index)), reverse=True):
            while not self._move(queue_key, number):
                pass

    def _move(self, queue_key: str, number: int) -> bool:
        """Move a chunk from the newest end of a claim list; whether the list is done with."""
        for _ in range(_TRIES):
            with self.client.pipeline() as pipe:
                try:
                    return self._try_move(pipe, queue_key, number)
                except WatchError:
                    continue  # another restorer moved it, or its worker did something: look again
        raise _CameBack  # nobody but a living worker changes a list so often

    def _try_move(self, pipe: Any, queue_key: str, number: int) -> bool:
        claim = self.keys.claim(queue_key, self.worker.worker, number=number)
        waiting = self.keys.waiting(queue_key)
        pipe.watch(self.heartbeat, claim)
        self._check_dead(pipe)
        length = pipe.llen(claim)
        # A push onto another type fails when the transaction is executed, which would not keep the claim from going.
        if length and pipe.type(waiting) not in (b"none", b"list"):
            log.error("Key %s is no list; %d claimed messages stay in %s", waiting, length, claim)
            self.left += length
            return True
        entries = _first_bytes(pipe.lrange(claim, 0, _CHUNK - 1))
        guilty = self._suspected(pipe, entries, queue_key=queue_key, number=number, length=length)
        aside = [(raw, deaths) for raw, deaths in guilty if len(deaths) >= self.max_crashes]
        staying = [_TOMBSTONE if any(entry is raw for raw, _ in aside) else entry for entry in entries]
        kept, skipped = self._sift(staying, queue_key=queue_key, number=number, length=length)
        done: bool = len(entries) == length
        pipe.multi()
        for raw, deaths in guilty:
            note_crash(pipe, self.keys.crashes(queue_key, identity(raw)), deaths[-1])
        for raw, deaths in aside:
            pipe.lpush(self.keys.dead(queue_key), self._letter(raw, deaths))
        if kept:
            pipe.rpush(waiting, *kept)
        if done:
            pipe.unlink(claim)
            pipe.srem(self.keys.claims(queue_key, self.worker.worker), number)
        else:
            pipe.ltrim(claim, len(entries), -1)
        pipe.execute()
        self.restored += len(kept)
        self.started += skipped
        self.quarantined += aside
        return done

    def _suspected(
        self, pipe: Any, entries: Sequence[bytes], *, queue_key: str, number: int, length: int
    ) -> list[tuple[bytes, tuple[Death, ...]]]:
        """Messages that the worker ran when it died, each with its deaths, this one included."""
        found = []
        for index, entry in enumerate(entries):
            if entry == _TOMBSTONE or (queue_key, number, length - 1 - index) not in self.suspects:
                continue
            before = read_deaths(pipe.lrange(self.keys.crashes(queue_key, identity(entry)), 0, -1))
            reason = f"the worker {self.worker.node or self.worker.worker} ended while it ran this message"
            death = Death(at=clock.now(), node=self.worker.node, pid=self.worker.pid, reason=reason)
            found.append((entry, (*before, death)))
        return found

    def _letter(self, raw: bytes, deaths: tuple[Death, ...]) -> bytes:
        detail = f"it has ended {len(deaths)} processes; the last time: {deaths[-1].reason}"
        letter = DeadLetter.of(
            raw, reason="crashes", detail=detail, at=clock.now(), node=self.worker.node, deaths=deaths
        )
        return letter.encode()

    def _sift(self, entries: Sequence[bytes], *, queue_key: str, number: int, length: int) -> tuple[list[bytes], int]:
        """What of a claim list's newest entries goes back, newest first; and how many were started."""
        kept, skipped = [], 0
        for index, entry in enumerate(entries):
            # Positions count from the right end, where the first claimed is, and so outlive a trim at the left.
            if entry == _TOMBSTONE:
                continue
            if (queue_key, number, length - 1 - index) in self.was_started:
                skipped += 1
            else:
                kept.append(_mark(entry))
        return kept, skipped

    def _check_dead(self, pipe: Any) -> None:
        if not is_dead(self.worker, beats=bool(pipe.exists(self.heartbeat))):
            raise _CameBack

    def forget(self) -> None:
        """Take it off the registry, unless something is left that another attempt can restore."""
        indexes = [self.keys.claims(queue_key, self.worker.worker) for queue_key in self.worker.keys]
        with self.client.pipeline() as pipe:
            try:
                pipe.watch(self.heartbeat, *indexes)
                self._check_dead(pipe)
                if indexes and pipe.exists(*indexes):
                    return
                pipe.multi()
                pipe.hdel(self.keys.workers, self.worker.worker)
                worker = self.worker.worker
                pipe.unlink(self.keys.flush(worker), self.keys.running(worker), self.heartbeat)
                pipe.execute()
            except WatchError:
                return  # whoever was faster forgets it, or it lives


def _first_bytes(entries: list[bytes]) -> list[bytes]:
    """As many of the first entries as may be sent at once; at least one."""
    size = 0
    for count, entry in enumerate(entries):
        size += len(entry)
        if size > _CHUNK_BYTES and count:
            return entries[:count]
    return entries


def _mark(entry: bytes) -> bytes:
    try:
        return mark_redelivered(entry)
    except EnvelopeError:
        return entry  # no message; the next worker sets it aside
