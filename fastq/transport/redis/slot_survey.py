"""Look at who waits for slots on a broker, and at who has them (see `slots`). Changes nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import redis

from fastq.transport.redis.keys import Keys
from fastq.transport.redis.slots import Holding

#: Keys that are asked about at once.
_AT_ONCE = 500


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A slot that is taken."""

    #: The task that has it, and which of its attempts.
    id: str
    retries: int
    #: Empty while the task's message is on the way back to its queue.
    worker: str
    #: Seconds for which it has been had; without a worker those for which it is kept, 0 if others may have it.
    for_s: float
    #: Whether the worker has a heartbeat; if not, the slot is given on within seconds.
    alive: bool

    @property
    def node(self) -> str:
        """The worker's node name."""
        return self.worker.rpartition("-")[0]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Those who wait for the slots of one key of one task; "" is the key of a task that has no others."""

    task: str
    key: str
    #: How many may run at once.
    most: int
    waiting: int
    #: The task that is next, and seconds for which it has waited.
    first: str
    first_s: float
    holders: list[Holder]


def lines(client: redis.Redis, *, keys: Keys) -> list[Line]:
    """All lines in which somebody waits, the one that has waited longest first. Blocks."""
    asked: Any = client
    seconds, micros = asked.time()
    bases = asked.zrange(keys.slots, 0, -1)
    found: list[Line] = []
    for at in range(0, len(bases), _AT_ONCE):
        found += _look(asked, bases[at : at + _AT_ONCE], keys=keys, now=seconds + micros / 1e6)
    return sorted(found, key=lambda line: -line.first_s)


def _look(asked: Any, bases: list[bytes], *, keys: Keys, now: float) -> list[Line]:
    pipe = asked.pipeline(transaction=False)
    for base in bases:
        pipe.zrange(base + b":waiting", 0, 0, withscores=True).zcard(base + b":waiting")
        pipe.hget(base + b":messages", "").hgetall(base + b":running")
    answers = pipe.execute()
    workers = {Holding.read(text).worker.decode("utf-8", "replace") for held in answers[3::4] for text in held.values()}
    alive = {worker for worker in workers if worker and asked.exists(keys.heartbeat(worker))}
    found = []
    for base, first, waiting, most, running in zip(bases, *(answers[n::4] for n in range(4)), strict=True):
        if first and most:  # they may have had their turn between the two looks
            task, _, key = base.decode("utf-8", "replace")[len(keys.slots) + 1 :].partition(":")
            line = Line(
                task=task,
                key=key,
                most=int(most),
                waiting=waiting,
                first=_attempt(first[0][0])[0],
                first_s=max(0.0, now - first[0][1] / 1e6),
                holders=_holders(running, alive=alive, now=now),
            )
            found.append(line)
    return found


def _holders(running: dict[bytes, bytes], *, alive: set[str], now: float) -> list[Holder]:
    found = []
    for attempt, text in running.items():
        task_id, retries = _attempt(attempt)
        held = Holding.read(text)
        worker = held.worker.decode("utf-8", "replace")
        for_s = max(0.0, now - held.at if worker else held.at - now)
        found.append(Holder(id=task_id, retries=retries, worker=worker, for_s=for_s, alive=worker in alive))
    return sorted(found, key=lambda holder: (not holder.worker, -holder.for_s))


def _attempt(name: bytes) -> tuple[str, int]:
    task_id, _, retries = name.decode("utf-8", "replace").rpartition(":")
    return task_id, int(retries)
