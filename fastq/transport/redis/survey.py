"""Look at a broker as a whole: how much waits in each queue, who consumes it, what is held. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import redis

from fastq.errors import PeerError
from fastq.transport.redis.keys import Keys
from fastq.transport.redis.registry import RegistryEntry, read_registry
from fastq.transport.redis.slot_survey import Line, lines
from fastq.wire.envelope import read_header


class QueueSurvey(msgspec.Struct, frozen=True, kw_only=True):
    """One queue."""

    queue: str
    #: Waiting messages by priority step.
    lengths: dict[int, int]
    #: Node names of the fastq workers that consume it and have a heartbeat.
    consumers: list[str]
    #: Messages in claim lists, those included that are settled and whose list is not.
    claimed: int
    #: The message that is claimed next, task[id]; empty if none waits. Messages don't say when they were sent.
    oldest: str = ""

    @property
    def length(self) -> int:
        """Waiting messages of all priorities."""
        return sum(self.lengths.values())


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """One broker."""

    queues: list[QueueSurvey]
    #: Messages that stock workers hold, of all queues.
    unacked: int
    #: Those who are in no queue since they wait for a slot of their task (`max_running`).
    for_slots: list[Line]


def survey(client: redis.Redis, *, keys: Keys, names: Iterable[str] = ()) -> Survey:
    """All queues that workers have registered, that are bound to an exchange, or that are named. Blocks."""
    asked: Any = client
    workers = _alive(asked, read_registry(client, keys=keys), keys=keys)
    found = sorted({*names, *_registered(workers, keys), *_bound(asked, keys)})
    return Survey(
        queues=[_queue(asked, name, workers, keys=keys) for name in found],
        unacked=int(asked.hlen(keys.unacked)),
        for_slots=lines(client, keys=keys),
    )


def _alive(asked: Any, workers: list[RegistryEntry], *, keys: Keys) -> list[RegistryEntry]:
    return [worker for worker in workers if asked.exists(keys.heartbeat(worker.worker))]


def _registered(workers: list[RegistryEntry], keys: Keys) -> set[str]:
    return {_name(key, keys) for worker in workers for key in worker.keys}


def _name(key: str, keys: Keys) -> str:
    name, separator, step = key.rpartition(keys.separator)
    return name if separator and step.isdigit() and int(step) in keys.priority_steps else key


def _bound(asked: Any, keys: Keys) -> set[str]:
    # Members of a binding: routing key, pattern and queue, with kombu's separator between.
    found = set()
    for binding in asked.scan_iter(match=f"{_escaped(keys.binding(''))}*", count=500):
        for member in asked.smembers(binding):
            name = member.decode("utf-8", "replace").rpartition("\x06\x16")[2]
            if not name.endswith((".pidbox", ".reply.celery.pidbox")) and not name.startswith("celeryev."):
                found.add(name)
    return found


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]\\" else c for c in text)


def _queue(asked: Any, name: str, workers: list[RegistryEntry], *, keys: Keys) -> QueueSurvey:
    by_key = dict(zip(keys.queue_keys(name), keys.priority_steps, strict=True))
    lengths = {step: _length(asked, keys.waiting(key)) for key, step in by_key.items()}
    consumers = [worker for worker in workers if set(worker.keys) & set(by_key)]
    claimed = sum(_claimed(asked, key, worker.worker, keys=keys) for worker in consumers for key in by_key)
    waiting = next((key for key, step in by_key.items() if lengths[step]), None)
    return QueueSurvey(
        queue=name,
        lengths=lengths,
        consumers=sorted(worker.node for worker in consumers),
        claimed=claimed,
        oldest="" if waiting is None else _described(asked.lindex(keys.waiting(waiting), -1)),
    )


def _described(raw: bytes | None) -> str:
    """What people call a message; it may have been claimed just now."""
    if raw is None:
        return ""
    try:
        header = read_header(raw)
    except PeerError:
        return "not readable"
    again = " (redelivered)" if b'"redelivered": true' in raw else ""
    return f"{header.shadow or header.task or 'protocol 1'}[{header.id}]{again}"


def _claimed(asked: Any, key: str, worker: str, *, keys: Keys) -> int:
    numbers = asked.smembers(keys.claims(key, worker))
    return sum(_length(asked, keys.claim(key, worker, number=int(number))) for number in numbers)


def _length(asked: Any, key: str) -> int:
    try:
        return int(asked.llen(key))
    except redis.ResponseError:
        return 0  # the name of the queue is that of something else
