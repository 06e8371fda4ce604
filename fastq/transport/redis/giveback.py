"""Put claimed messages back to the front of their queues while their worker lives."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import redis
from redis.exceptions import WatchError

from fastq.errors import EnvelopeError
from fastq.wire.redelivery import mark_redelivered

log: logging.Logger = logging.getLogger(__name__)

#: Messages of one transaction: the server does nothing else meanwhile.
CHUNK = 200

_TRIES = 10


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a claimed message lies, and which queue it came from; names as on the server."""

    entry: int
    queue: bytes
    claim: bytes
    #: Number of the claim list: later claims have higher ones.
    number: int
    position: int


def give_back(client: redis.Redis, places: Sequence[Place]) -> Iterator[list[int]]:
    """Push messages back, chunk by chunk; yields the entries of each chunk after it was done.

    Newest first, each to the front: the oldest is read first again. Each chunk is one transaction with the tombstones
    on its claims, so that a message is never on both, and never on neither.
    """
    ordered = sorted(places, key=lambda p: (p.queue, p.number, p.position), reverse=True)
    for start in range(0, len(ordered), CHUNK):
        chunk = ordered[start : start + CHUNK]
        _give_chunk(client, chunk)
        yield [place.entry for place in chunk]


def _give_chunk(client: redis.Redis, chunk: Sequence[Place]) -> None:
    for _ in range(_TRIES):
        pipe: Any = client.pipeline(transaction=True)
        with pipe:
            try:
                _try_chunk(pipe, chunk)
            except WatchError:
                continue  # somebody else is at these claims: look again
            return
    log.warning("Messages of %d claims could not be given back now; they are restored when the lease ends", len(chunk))


def _try_chunk(pipe: Any, chunk: Sequence[Place]) -> None:
    pipe.watch(*{place.claim for place in chunk})
    found = [pipe.lindex(place.claim, -place.position - 1) for place in chunk]
    lists = {queue for queue in {place.queue for place in chunk} if pipe.type(queue) in (b"none", b"list")}
    pipe.multi()
    for place, raw in zip(chunk, found, strict=True):
        # Nothing there: somebody restored it already. Not a list: a push would fail, and the message must stay claimed.
        if raw and place.queue in lists:
            pipe.rpush(place.queue, _marked(raw))
            pipe.lset(place.claim, -place.position - 1, b"")
    pipe.execute()


def _marked(raw: bytes) -> bytes:
    try:
        return mark_redelivered(raw)
    except EnvelopeError:
        return raw
