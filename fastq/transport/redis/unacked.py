"""Restore what stock Celery workers left behind, by kombu's rules, but lose nothing.

A stock worker records what it took from a queue in the hash `unacked`, and when in the sorted set `unacked_index`. What
is there longer than the visibility timeout goes back to its queue; one restorer at a time, by a lock all of them share.
Other than a stock worker, this one leaves a message whose exchange leads nowhere where it is, and says so; and it gives
each message a new delivery tag, so that a late acknowledgement of the old delivery cannot delete the new one.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Final

import msgspec
import redis
from redis.exceptions import LockError, WatchError

from fastq import clock
from fastq.errors import EnvelopeError
from fastq.transport.redis.binding import find_queues
from fastq.transport.redis.keys import Keys
from fastq.wire.redelivery import mark_redelivered

log: logging.Logger = logging.getLogger(__name__)

#: Seconds after which a restorer that died no longer blocks the others. kombu's own value.
MUTEX_EXPIRE_S: Final = 300.0

#: Tags looked at with one question.
_PAGE: Final = 500

#: Every acknowledgement of a stock worker changes the watched hash; after so many the message waits for the next sweep.
_TRIES: Final = 20

_split: Final = msgspec.json.Decoder(tuple[msgspec.Raw, str | None, str | None]).decode


def restore_unacked(
    client: redis.Redis,
    *,
    keys: Keys,
    visibility_timeout_s: float,
    limit: int | None = None,
    mutex_expire_s: float = MUTEX_EXPIRE_S,
) -> int:
    """Put back what was taken longer ago than the visibility timeout; how many. 0 if somebody else is at it.

    `limit` is kombu's `unacked_restore_limit`.
    """
    lock = client.lock(keys.unacked_mutex, timeout=mutex_expire_s, blocking=False)
    if not lock.acquire():
        return 0
    try:
        return _sweep(client, keys=keys, until=clock.now() - visibility_timeout_s, limit=limit)
    finally:
        try:
            lock.release()
        except LockError:
            pass  # it expired meanwhile; the next restorer has its own


def _sweep(client: redis.Redis, *, keys: Keys, until: float, limit: int | None) -> int:
    restored = left = 0
    while limit is None or restored + left < limit:
        page = _PAGE if limit is None else min(_PAGE, limit - restored - left)
        asked: Any = client
        # The newest first, as kombu does: pushed last, the oldest is popped first.
        tags = asked.zrange(keys.unacked_index, until, 0, desc=True, byscore=True, offset=left, num=page)
        for tag in tags:
            pushed = _restore(client, tag, keys=keys)
            restored += pushed or 0
            left += pushed is None
        if len(tags) < page:
            break
    return restored


def _restore(client: redis.Redis, tag: bytes, *, keys: Keys) -> int | None:
    """How many messages the tag stood for: one, or none if it was acknowledged meanwhile; None if it stays."""
    asked: Any = client
    for _ in range(_TRIES):
        with asked.pipeline() as pipe:
            try:
                pipe.watch(keys.unacked)
                held = pipe.hget(keys.unacked, tag)
                pushes = _pushes(client, held, tag=tag, keys=keys) if held else []
                if pushes is None:
                    return None
                pipe.multi()
                pipe.zrem(keys.unacked_index, tag)
                pipe.hdel(keys.unacked, tag)
                for key, message in pushes:
                    pipe.rpush(key, message)
                pipe.execute()
            except WatchError:
                continue
            return 1 if pushes else 0
    return None


def _pushes(client: redis.Redis, held: bytes, *, tag: bytes, keys: Keys) -> list[tuple[str, bytes]] | None:
    """Which list gets which bytes; None if the message must stay where it is."""
    try:
        envelope, exchange, routing_key = _read(held)
        message = mark_redelivered(envelope)
        priority = json.loads(message)["properties"].get("priority")
    except (ValueError, EnvelopeError) as error:
        log.error("Message %r in %s cannot be read and stays there: %s", tag, keys.unacked, error)
        return None
    queues = find_queues(client, exchange, routing_key=routing_key, keys=keys)
    if not queues:
        log.error(
            "Message %r stays in %s: exchange %r has no queue bound for routing key %r",
            tag, keys.unacked, exchange, routing_key,
        )  # fmt: skip
        return None
    waiting = [keys.waiting(keys.queue_key(queue, priority=priority)) for queue in queues]
    asked: Any = client
    for key in waiting:
        if asked.type(key) not in (b"none", b"list"):
            log.error("Message %r stays in %s: key %s is no list", tag, keys.unacked, key)
            return None
    return [(key, message) for key in waiting]


def _read(held: bytes) -> tuple[bytes, str, str]:
    """Envelope, exchange and routing key of one entry of the hash."""
    try:
        envelope, exchange, routing_key = _split(held)
        return bytes(envelope), exchange or "", routing_key or ""
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass  # NaN, lone surrogates: Python's json reads what kombu wrote with it
    parsed = json.loads(held.decode())
    if not isinstance(parsed, list) or len(parsed) != 3:
        raise ValueError("it is no array of envelope, exchange and routing key")
    return json.dumps(parsed[0]).encode(), str(parsed[1] or ""), str(parsed[2] or "")
