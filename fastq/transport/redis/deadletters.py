"""Keep dead letters: count what kills its workers, list, send again, drop, and forget after a while.

A queue key's letters are one list, the newest at the left. Crashes of a message are a list, too, that expires. A crash
is counted before its message can be run again, in the step that makes that possible or before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import redis
from redis.exceptions import WatchError

from fastq import clock
from fastq.errors import EnvelopeError, SurroundingsError
from fastq.transport.redis.keys import Keys
from fastq.wire.deadletter import DeadLetter, Death, decode_letter, identity

#: Letters that each list keeps: the oldest go first.
MOST_LETTERS: Final = 10_000

#: Seconds that a letter is kept, and that crashes are remembered after the last.
LETTER_S: Final = 30 * 24 * 3600
CRASHES_S: Final = 24 * 3600

#: Letters looked at in one command.
_PAGE: Final = 500

_TRIES: Final = 20

_death = msgspec.json.Decoder(Death).decode


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A letter where it lies."""

    #: The queue key, without the prefix.
    queue_key: str
    letter: DeadLetter
    #: As it stands in the list: what takes it out again.
    raw: bytes


# Crashes


def count_crash(client: redis.Redis, queue_key: str, raw: bytes, death: Death, *, keys: Keys) -> list[Death]:
    """Remember that running this message has ended a process; all that is remembered now. Blocks."""
    key = keys.crashes(queue_key, identity(raw))
    pipe: Any = client.pipeline(transaction=True)
    with pipe:
        note_crash(pipe, key, death)
        pipe.lrange(key, 0, -1)
        return read_deaths(pipe.execute()[-1])


def note_crash(pipe: Any, key: str, death: Death) -> None:
    """Add the commands to a transaction."""
    pipe.rpush(key, msgspec.json.encode(death))
    pipe.expire(key, CRASHES_S)


def read_deaths(entries: Sequence[bytes]) -> list[Death]:
    """What `note_crash` has written."""
    return [_death(entry) for entry in entries]


# Letters


def letters(client: redis.Redis, *, keys: Keys, queues: Sequence[str] = ()) -> Iterator[Found]:
    """All letters, queue by queue, the newest first. Blocks."""
    asked: Any = client
    for queue_key in sorted(dead_queue_keys(client, keys=keys)):
        if queues and queue_key.split(keys.separator)[0] not in queues:
            continue
        start = 0
        while page := asked.lrange(keys.dead(queue_key), start, start + _PAGE - 1):
            yield from (found for raw in page if (found := _read(queue_key, raw)) is not None)
            start += _PAGE


def dead_queue_keys(client: redis.Redis, *, keys: Keys) -> set[str]:
    """Queue keys, without the prefix, that have dead letters. Blocks, for as long as a scan of all keys takes."""
    asked: Any = client
    pattern = "".join(f"\\{c}" if c in "*?[]\\^" else c for c in keys.prefix) + "fastq:dead:*"
    found = (keys.parse_dead(name) for name in asked.scan_iter(match=pattern, count=1000))
    return {queue_key for queue_key in found if queue_key is not None}


def _read(queue_key: str, raw: bytes) -> Found | None:
    try:
        return Found(queue_key=queue_key, letter=decode_letter(raw), raw=raw)
    except EnvelopeError:
        return Found(
            queue_key=queue_key,
            letter=DeadLetter.of(raw, reason="undecodable", detail="this letter cannot be read", at=0.0),
            raw=raw,
        )


def replay(client: redis.Redis, found: Found, *, keys: Keys) -> bool:
    """Send a letter's message to its queue again, as it was, behind what waits there; its crashes are forgotten.

    False if the letter is gone. One step on the server: the message is never in both lists. Blocks.
    """
    return _take_out(client, found, keys=keys, resend=True)


def drop(client: redis.Redis, found: Found, *, keys: Keys) -> bool:
    """Delete a letter; False if it is gone. Blocks."""
    return _take_out(client, found, keys=keys, resend=False)


def _take_out(client: redis.Redis, found: Found, *, keys: Keys, resend: bool) -> bool:
    dead, waiting = keys.dead(found.queue_key), keys.waiting(found.queue_key)
    for _ in range(_TRIES):
        pipe: Any = client.pipeline(transaction=True)
        with pipe:
            try:
                pipe.watch(dead)
                if pipe.lpos(dead, found.raw) is None:
                    return False
                _check_list(pipe, waiting)
                pipe.multi()
                pipe.lrem(dead, 1, found.raw)
                pipe.delete(keys.crashes(found.queue_key, identity(found.letter.message)))
                if resend:
                    pipe.lpush(waiting, found.letter.message)
                pipe.execute()
                return True
            except WatchError:
                continue  # a worker has put another letter there
    raise SurroundingsError(f"{dead} changes all the time; try again when fewer messages are put aside")


def _check_list(pipe: Any, waiting: str) -> None:
    if pipe.type(waiting) not in (b"none", b"list"):
        raise SurroundingsError(f"the key {waiting} of the queue holds something else than a list")


def trim(client: redis.Redis, queue_keys: Sequence[str], *, keys: Keys) -> int:
    """Drop what is too old, or too much; how many letters that were. Blocks."""
    asked: Any = client
    dropped = 0
    for queue_key in queue_keys:
        dead = keys.dead(queue_key)
        length = asked.llen(dead)
        if length > MOST_LETTERS:
            asked.ltrim(dead, 0, MOST_LETTERS - 1)
            dropped += length - MOST_LETTERS
        while (last := asked.lindex(dead, -1)) is not None and _is_old(queue_key, last):
            dropped += asked.lrem(dead, -1, last)
    return dropped


def _is_old(queue_key: str, raw: bytes) -> bool:
    found = _read(queue_key, raw)
    return found is not None and 0 < found.letter.at < clock.now() - LETTER_S
