"""What fastq's own Lua scripts do, in Python, for servers that have no Lua."""

from __future__ import annotations

import re
from typing import Any

from fastq import clock
from fastq.memory.keyspace import Keyspace, Words, script
from fastq.results import chord
from fastq.results.redis import SCRIPT as RESULT
from fastq.transport.redis import locks


@script(RESULT)
def store_result(space: Keyspace, keys: Words, words: Words) -> Any:
    """Store a state, unless SUCCESS is there, or for states that are no end anything that ended later."""
    (key,), (value, expires_s, began) = keys, words
    old = space.find(key, bytes)
    if old is not None and old.startswith(b'{"status": "SUCCESS"'):
        return 0
    done = re.search(rb'"date_done": "([^"]+)"', old or b"")
    if done and began and done[1] >= began:
        return 0
    space.put(key, value, until=clock.now() + int(expires_s) if int(expires_s) else None)
    space.publish(key, value)
    return 1


@script(chord.COUNT)
def count_part(space: Keyspace, keys: Words, words: Words) -> Any:
    """Add a part to a chord, and say how many there are, how many are wanted, and who sends the body."""
    parts, more, size, seen, claim = keys[:5]
    task_id, part, place, expires_s, claim_s, token = words
    if space.find(claim, bytes) == b"done":
        return [-1, 0, 0]
    if space.run([b"SADD", seen, b"%b:%b" % (task_id, place)]):
        space.run([b"ZADD", parts, place, part])
    there = space.run([b"ZCARD", parts])
    for key in keys if int(expires_s) > 0 else ():
        if key != claim:
            space.run([b"EXPIRE", key, expires_s])
    known = space.find(size, bytes)
    if known is None:
        return [there, -1, 0]
    wanted = int(known) + int(space.find(more, bytes) or 0)
    if there != wanted:
        return [there, wanted, 0]
    taken = space.run([b"SET", claim, token, b"NX", b"EX", claim_s])
    return [there, wanted, 1 if taken or space.find(claim, bytes) == token else 2]


@script(chord.EXTEND)
def extend_claim(space: Keyspace, keys: Words, words: Words) -> Any:
    """Hold a claim that is ours, or that nobody has while the chord is not through."""
    (claim, size), (token, seconds) = keys, words
    owner = space.find(claim, bytes)
    if owner == token or (owner is None and space.look(size) is not None):
        space.run([b"SET", claim, token, b"EX", seconds])
        return 1
    return 0


@script(chord.FINISH)
def finish_chord(space: Keyspace, keys: Words, words: Words) -> Any:
    """Push what follows and end the chord, if the claim is ours."""
    claim, token, seconds = keys[4], words[0], words[1]
    if space.find(claim, bytes) != token:
        return 0
    for queue, message in zip(keys[5:], words[2:], strict=True):
        space.run([b"LPUSH", queue, message])
    space.run([b"DEL", *keys[:4]])
    space.run([b"SET", claim, b"done", b"EX", seconds])
    return 1


@script(locks.SEND)
def send_once(space: Keyspace, keys: Words, words: Words) -> Any:
    """Push a message and take its lock, unless somebody has it."""
    (lock, queue), (task_id, hold_ms, message) = keys, words
    holder = space.find(lock, bytes)
    if holder is not None:
        return holder
    space.run([b"LPUSH", queue, message])
    space.run([b"SET", lock, task_id, b"PX", hold_ms])
    return b""


@script(locks.KEEP)
def keep_lock(space: Keyspace, keys: Words, words: Words) -> Any:
    """Keep a lock for longer, if it is this task's."""
    (lock,), (task_id, hold_ms) = keys, words
    if space.find(lock, bytes) != task_id:
        return 0
    space.run([b"SET", lock, task_id, b"PX", hold_ms])
    return 1


@script(locks.RELEASE)
def release_lock(space: Keyspace, keys: Words, words: Words) -> Any:
    """Give a lock back, if it is this task's."""
    (lock,), (task_id,) = keys, words
    return space.run([b"DEL", lock]) if space.find(lock, bytes) == task_id else 0
