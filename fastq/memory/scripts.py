"""What fastq's own Lua scripts do, in Python, for servers that have no Lua."""

from __future__ import annotations

import re
from typing import Any

from fastq import clock
from fastq.memory.keyspace import Keyspace, Words, script
from fastq.results import chord
from fastq.results.redis import SCRIPT as RESULT
from fastq.transport.redis import locks, slots


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


@script(slots.TAKE)
def take_slot(space: Keyspace, keys: Words, words: Words) -> Any:
    """Have a slot, or wait for one."""
    (running, waiting, messages, index), (base, beats, limit, attempt, worker, queue, message) = keys, words
    if not space.run([b"HEXISTS", running, attempt]):
        line = space.run([b"ZRANGE", waiting, b"0", b"-1"])
        ahead = line.index(attempt) if attempt in line else len(line)
        if _free_slots(space, base, beats, int(limit)) <= ahead:
            if space.run([b"ZADD", waiting, b"NX", str(int(clock.now() * 1e6)).encode(), attempt]):
                _count_waiting(space, base, index, 1)
            space.run([b"HSET", messages, attempt, queue + b"\n" + message, b"", limit])
            _let_in(space, base, index, beats, int(limit))
            return max(1, space.run([b"ZCARD", waiting]))
    if space.run([b"ZREM", waiting, attempt]):
        _count_waiting(space, base, index, -1)
    space.run([b"HDEL", messages, attempt])
    space.run([b"HSET", running, attempt, b"%d %b" % (clock.now() * 1000, worker)])
    return 0


@script(slots.FREE)
def free_slot(space: Keyspace, keys: Words, words: Words) -> Any:
    """Give a slot back, and let in who is next."""
    (running, _, messages, index), (base, beats, attempt, worker) = keys, words
    holder = space.run([b"HGET", running, attempt])
    if holder and (slots.Holding.read(holder).worker in (b"", worker) or _is_gone(space, holder, beats)):
        space.run([b"HDEL", running, attempt])
    limit = space.run([b"HGET", messages, b""])
    if limit:
        _let_in(space, base, index, beats, int(limit))
    return 1


@script(slots.SWEEP)
def sweep_slots(space: Keyspace, keys: Words, words: Words) -> Any:
    """Let in who waits for slots that the dead have had."""
    (index,), (beats, most) = keys, words
    now_ms = str(clock.now() * 1000).encode()
    due = space.run([b"ZRANGE", index, b"-inf", now_ms, b"BYSCORE", b"LIMIT", b"0", most])
    for base in due:
        limit = space.run([b"HGET", base + b":messages", b""])
        if limit:
            _let_in(space, base, index, beats, int(limit))
        else:
            space.run([b"ZREM", index, base])
            space.run([b"DEL", base + b":waiting"])
            _count_anew(space, index)
    return space.run([b"HGETALL", index + b":waiting"])


def _free_slots(space: Keyspace, base: bytes, beats: bytes, limit: int) -> int:
    running = space.find(base + b":running", dict) or {}
    if len(running) >= limit:
        for attempt, holder in list(running.items()):
            if _is_gone(space, holder, beats):
                space.run([b"HDEL", base + b":running", attempt])
    return limit - int(space.run([b"HLEN", base + b":running"]))


def _is_gone(space: Keyspace, holder: bytes, beats: bytes) -> bool:
    found = slots.Holding.read(holder)
    return not space.run([b"EXISTS", beats + found.worker]) if found.worker else found.at <= clock.now()


def _count_anew(space: Keyspace, index: bytes) -> None:
    space.run([b"DEL", index + b":waiting"])
    for base in space.run([b"ZRANGE", index, b"0", b"-1"]):
        _count_waiting(space, base, index, space.run([b"ZCARD", base + b":waiting"]))


def _count_waiting(space: Keyspace, base: bytes, index: bytes, by: int) -> None:
    counts, task = index + b":waiting", base[len(index) + 1 :].split(b":", 1)[0]
    waiting = int(space.run([b"HGET", counts, task]) or 0) + by
    space.run([b"HSET", counts, task, b"%d" % waiting] if waiting > 0 else [b"HDEL", counts, task])


def _let_in(space: Keyspace, base: bytes, index: bytes, beats: bytes, limit: int) -> None:
    waiting, messages = base + b":waiting", base + b":messages"
    line = space.run([b"ZRANGE", waiting, b"0", b"-1"])
    for attempt in line[: max(0, _free_slots(space, base, beats, limit))]:
        queue, message = space.run([b"HGET", messages, attempt]).split(b"\n", 1)
        space.run([b"RPUSH", queue, message])
        until_ms = int(clock.now() * 1000) + slots.RESERVE_MS
        space.run([b"HSET", base + b":running", attempt, b"@%d" % until_ms])
        space.run([b"ZREM", waiting, attempt])
        space.run([b"HDEL", messages, attempt])
        _count_waiting(space, base, index, -1)
    if space.run([b"ZCARD", waiting]):
        space.run([b"ZADD", index, str(int(clock.now() * 1000) + slots.LOOK_MS).encode(), base])
    else:
        space.run([b"DEL", messages])
        space.run([b"ZREM", index, base])
