"""The commands that fastq and its clients use, as Redis has them. Each gets its words without the name."""

from __future__ import annotations

import fnmatch
import itertools
from collections import deque
from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from fastq import clock
from fastq.memory.keyspace import OK, SCRIPTS, TYPES, Keyspace, Refused, Sorted, Status, Words, command

# ---------------------------------------------------------------------------- texts


@command("GET")
def _get(space: Keyspace, words: Words) -> Any:
    return space.find(words[0], bytes)


@command("MGET")
def _mget(space: Keyspace, words: Words) -> Any:
    return [value if isinstance(value := space.look(key), bytes) else None for key in words]


@command("SET")
def _set(space: Keyspace, words: Words) -> Any:
    key, value, options = words[0], words[1], [word.upper() for word in words[2:]]
    old = space.look(key)
    asked = space.find(key, bytes) if b"GET" in options else None
    if (b"NX" in options and old is not None) or (b"XX" in options and old is None):
        return asked
    until = space._until.get(key) if b"KEEPTTL" in options else None
    for unit, second in ((b"EX", 1.0), (b"PX", 0.001)):
        if unit in options:
            until = clock.now() + int(options[options.index(unit) + 1]) * second
    space.put(key, value, until=until)
    return asked if b"GET" in options else OK


@command("SETEX")
def _setex(space: Keyspace, words: Words) -> Any:
    space.put(words[0], words[2], until=clock.now() + int(words[1]))
    return OK


@command("INCR", "INCRBY")
def _incrby(space: Keyspace, words: Words) -> Any:
    number = int(space.find(words[0], bytes) or 0) + int(words[1] if len(words) > 1 else 1)
    space.put(words[0], str(number).encode(), until=space._until.get(words[0]))
    return number


# ---------------------------------------------------------------------------- keys


@command("DEL", "UNLINK")
def _del(space: Keyspace, words: Words) -> Any:
    return sum(space.look(key) is not None and space.drop(key) for key in words)


@command("EXISTS")
def _exists(space: Keyspace, words: Words) -> Any:
    return sum(space.look(key) is not None for key in words)


@command("EXPIRE")
def _expire(space: Keyspace, words: Words) -> Any:
    return space.expire(words[0], clock.now() + int(words[1]))


@command("TTL")
def _ttl(space: Keyspace, words: Words) -> Any:
    left_ms = _pttl(space, words)
    return left_ms if left_ms < 0 else round(left_ms / 1000)


@command("PTTL")
def _pttl(space: Keyspace, words: Words) -> Any:
    if space.look(words[0]) is None:
        return -2
    left_s = space.left_s(words[0])
    return -1 if left_s is None else int(left_s * 1000)


@command("TYPE")
def _type(space: Keyspace, words: Words) -> Any:
    return Status(TYPES.get(type(space.look(words[0])), b"none"))


@command("KEYS")
def _keys(space: Keyspace, words: Words) -> Any:
    return matching(space.keys(), words[0])


@command("SCAN")
def _scan(space: Keyspace, words: Words) -> Any:
    options = dict(zip((word.upper() for word in words[1::2]), words[2::2], strict=True))
    found = matching(space.keys(), options.get(b"MATCH", b"*"))
    return [b"0", [key for key in found if options.get(b"TYPE") in (None, _type(space, [key]))]]


@command("FLUSHDB", "FLUSHALL")
def _flush(space: Keyspace, _words: Words) -> Any:
    space.clear()
    return OK


def matching(names: Sequence[bytes], pattern: bytes) -> list[bytes]:
    """Those that a pattern of Redis' means."""
    return [name for name in names if fnmatch.fnmatchcase(name.decode("latin-1"), pattern.decode("latin-1"))]


# ---------------------------------------------------------------------------- lists


def _push(space: Keyspace, words: Words, *, left: bool) -> int:
    found = space.have(words[0], deque)
    (found.extendleft if left else found.extend)(words[1:])
    space.changed(words[0])
    space.pushed = True
    return len(found)


@command("LPUSH")
def _lpush(space: Keyspace, words: Words) -> Any:
    return _push(space, words, left=True)


@command("RPUSH")
def _rpush(space: Keyspace, words: Words) -> Any:
    return _push(space, words, left=False)


def take(space: Keyspace, key: bytes, *, left: bool) -> bytes | None:
    """Take one out of a list."""
    found = space.find(key, deque)
    if found is None:
        return None
    value = found.popleft() if left else found.pop()
    space.changed(key)
    return value


@command("RPOP")
def _rpop(space: Keyspace, words: Words) -> Any:
    return take(space, words[0], left=False)


@command("LMOVE")
def _lmove(space: Keyspace, words: Words) -> Any:
    space.find(words[1], deque)  # refused before anything is taken
    value = take(space, words[0], left=words[2].upper() == b"LEFT")
    if value is not None:
        _push(space, [words[1], value], left=words[3].upper() == b"LEFT")
    return value


@command("LLEN")
def _llen(space: Keyspace, words: Words) -> Any:
    return len(space.find(words[0], deque) or ())


@command("LRANGE")
def _lrange(space: Keyspace, words: Words) -> Any:
    found = space.find(words[0], deque) or ()
    return list(found)[_slice(len(found), words[1], words[2])]


@command("LTRIM")
def _ltrim(space: Keyspace, words: Words) -> Any:
    found = space.find(words[0], deque)
    if found is not None:
        kept = list(found)[_slice(len(found), words[1], words[2])]
        found.clear()
        found.extend(kept)
        space.changed(words[0])
    return OK


@command("LINDEX")
def _lindex(space: Keyspace, words: Words) -> Any:
    found, index = space.find(words[0], deque) or (), int(words[1])
    return found[index] if -len(found) <= index < len(found) else None


@command("LSET")
def _lset(space: Keyspace, words: Words) -> Any:
    found, index = space.find(words[0], deque), int(words[1])
    if found is None:
        raise Refused("ERR no such key")
    if not -len(found) <= index < len(found):
        raise Refused("ERR index out of range")
    found[index] = words[2]
    space.changed(words[0])
    return OK


@command("LREM")
def _lrem(space: Keyspace, words: Words) -> Any:
    found, count = space.find(words[0], deque), int(words[1])
    if found is None:
        return 0
    ordered = list(found) if count >= 0 else list(found)[::-1]
    places = [place for place, value in enumerate(ordered) if value == words[2]]
    gone = set(places[: abs(count)] if count else places)
    kept = [value for place, value in enumerate(ordered) if place not in gone]
    found.clear()
    found.extend(kept if count >= 0 else kept[::-1])
    space.changed(words[0])
    return len(gone)


@command("LPOS")
def _lpos(space: Keyspace, words: Words) -> Any:
    limits = dict(zip((word.upper() for word in words[2::2]), words[3::2], strict=True))
    most = int(limits.get(b"MAXLEN", 0)) or None
    found = itertools.islice(space.find(words[0], deque) or (), most)
    return next((place for place, value in enumerate(found) if value == words[1]), None)


def _slice(length: int, first: bytes, last: bytes) -> slice:
    start, stop = (number + length if number < 0 else number for number in (int(first), int(last)))
    return slice(max(0, start), max(0, stop + 1))


# ---------------------------------------------------------------------------- hashes


@command("HSET")
def _hset(space: Keyspace, words: Words) -> Any:
    found = space.have(words[0], dict)
    before = len(found)
    found.update(zip(words[1::2], words[2::2], strict=True))
    space.changed(words[0])
    return len(found) - before


@command("HGET")
def _hget(space: Keyspace, words: Words) -> Any:
    return (space.find(words[0], dict) or {}).get(words[1])


@command("HMGET")
def _hmget(space: Keyspace, words: Words) -> Any:
    return [_hget(space, [words[0], field]) for field in words[1:]]


@command("HGETALL")
def _hgetall(space: Keyspace, words: Words) -> Any:
    return [part for pair in (space.find(words[0], dict) or {}).items() for part in pair]


@command("HEXISTS")
def _hexists(space: Keyspace, words: Words) -> Any:
    return int(words[1] in (space.find(words[0], dict) or ()))


@command("HLEN", "SCARD", "ZCARD")
def _count(space: Keyspace, words: Words) -> Any:
    return len(space.look(words[0]) or ())


def _without(space: Keyspace, words: Words, kind: Any) -> int:
    found: Any = space.find(words[0], kind) or ()
    there = [word for word in dict.fromkeys(words[1:]) if word in found]
    for word in there:
        found.remove(word) if kind is set else found.pop(word)
    space.changed(words[0])
    return len(there)


@command("HDEL")
def _hdel(space: Keyspace, words: Words) -> Any:
    return _without(space, words, dict)


# ---------------------------------------------------------------------------- sets


@command("SADD")
def _sadd(space: Keyspace, words: Words) -> Any:
    found = space.have(words[0], set)
    before = len(found)
    found.update(words[1:])
    space.changed(words[0])
    return len(found) - before


@command("SREM")
def _srem(space: Keyspace, words: Words) -> Any:
    return _without(space, words, set)


@command("SMEMBERS")
def _smembers(space: Keyspace, words: Words) -> Any:
    return sorted(space.find(words[0], set) or ())


@command("SISMEMBER")
def _sismember(space: Keyspace, words: Words) -> Any:
    return int(words[1] in (space.find(words[0], set) or ()))


# ---------------------------------------------------------------------------- sorted sets


@command("ZADD")
def _zadd(space: Keyspace, words: Words) -> Any:
    found, rest = space.have(words[0], Sorted), list(words[1:])
    options = set()
    while rest and rest[0].upper() in (b"NX", b"XX", b"CH"):
        options.add(rest.pop(0).upper())
    before = len(found)
    for score, member in zip(rest[::2], rest[1::2], strict=True):
        if (b"NX" in options and member in found) or (b"XX" in options and member not in found):
            continue
        found[member] = float(score)
    space.changed(words[0])
    return len(found) - before


@command("ZREM")
def _zrem(space: Keyspace, words: Words) -> Any:
    return _without(space, words, Sorted)


@command("ZSCORE")
def _zscore(space: Keyspace, words: Words) -> Any:
    return (space.find(words[0], Sorted) or Sorted()).get(words[1])


@command("ZRANGE")
def _zrange(space: Keyspace, words: Words) -> Any:
    options = [word.upper() for word in words[3:]]
    found, backwards = space.find(words[0], Sorted) or Sorted(), b"REV" in options
    if b"BYSCORE" not in options:
        ordered = found.between(float("-inf"), float("inf"))
        ordered = (ordered[::-1] if backwards else ordered)[_slice(len(ordered), words[1], words[2])]
    else:
        low, high = (words[2], words[1]) if backwards else (words[1], words[2])
        ordered = found.between(float(low), float(high))[:: -1 if backwards else 1]
        if b"LIMIT" in options:
            skipped, most = (int(word) for word in options[options.index(b"LIMIT") + 1 :][:2])
            ordered = ordered[skipped:][: most if most >= 0 else None]
    if b"WITHSCORES" in options:
        return [part for member in ordered for part in (member, found[member])]
    return ordered


@command("ZRANGEBYSCORE")
def _zrangebyscore(space: Keyspace, words: Words) -> Any:
    return _zrange(space, [*words[:3], b"BYSCORE", *words[3:]])


@command("ZREMRANGEBYSCORE")
def _zremrangebyscore(space: Keyspace, words: Words) -> Any:
    return _without(space, [words[0], *_zrangebyscore(space, words)], Sorted)


@command("ZREMRANGEBYRANK")
def _zremrangebyrank(space: Keyspace, words: Words) -> Any:
    return _without(space, [words[0], *_zrange(space, words)], Sorted)


# ---------------------------------------------------------------------------- the rest


@command("PUBLISH")
def _publish(space: Keyspace, words: Words) -> Any:
    return space.publish(words[0], words[1])


@command("PING")
def _ping(_space: Keyspace, words: Words) -> Any:
    return words[0] if words else Status(b"PONG")


@command("WAIT")
def _wait(_space: Keyspace, _words: Words) -> Any:
    return 0


@command("EVAL")
def _eval(space: Keyspace, words: Words) -> Any:
    found = SCRIPTS.get(bytes(words[0]))
    if found is None:
        raise Refused("ERR the memory transport runs only scripts that it knows; use a Redis for this")
    count = int(words[1])
    return found(space, words[2 : 2 + count], words[2 + count :])


@command("EVALSHA")
def _evalsha(space: Keyspace, words: Words) -> Any:
    for text in SCRIPTS:
        if sha1(text).hexdigest().encode() == words[0].lower():
            return _eval(space, [text, *words[1:]])
    raise Refused("NOSCRIPT No matching script. Please use EVAL.")


@command("SCRIPT")
def _script(_space: Keyspace, words: Words) -> Any:
    return sha1(words[1]).hexdigest().encode() if words[0].upper() == b"LOAD" else OK
