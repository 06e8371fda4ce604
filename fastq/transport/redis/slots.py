"""Slots of tasks of which only so many may run at once: who has one, who waits for one, and the scripts that decide.

Each key of each task has three keys on the broker, under `fastq:slots:TASK:KEY`:

    :running    hash: an attempt (id and number) that has a slot -> since when (unix milliseconds), a space, its worker;
                "@milliseconds" while its message is on its way back to the queue: until then the slot is kept for it
    :waiting    sorted set: attempts that wait, by when they came
    :messages   hash: their messages, each with the list it goes back to; "" is how many may run

A slot is held by whoever has it as long as the heartbeat of its worker is there, so nothing has to be renewed, and what
a killed worker held is free when its lease ends. Each step is one script: a message is in a queue, with a worker, or
among those that wait. `fastq:slots` is a sorted set of the keys for which somebody waits, by when to look at them next,
for those whose holders have died; `fastq:slots:waiting` a hash of how many wait for each task, of whatever key.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fastq.transport.redis.commands import pack
from fastq.transport.redis.keys import Keys

#: Milliseconds for which a slot is kept for a message that was sent back to its queue.
RESERVE_MS: Final = 30_000

#: Milliseconds between looks at a key for which somebody waits.
LOOK_MS: Final = 1_000

#: Milliseconds after which a key is forgotten that nobody has used: longer than a task runs.
_KEEP_MS: Final = 7 * 24 * 3600 * 1000

#: Keys that one sweep looks at.
_MOST: Final = 500

_PRELUDE: Final = b"""\
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function worker_of(holder) return string.match(holder, '^%%d+ (.*)$') end
local function gone(holder, beats)
    local kept = string.match(holder, '^@(%%d+)$')
    if kept then return tonumber(kept) <= now end
    return redis.call('EXISTS', beats .. (worker_of(holder) or '')) == 0
end
local function count(base, index, by)
    local all, task = index .. ':waiting', string.match(string.sub(base, #index + 2), '^[^:]*')
    if redis.call('HINCRBY', all, task, by) <= 0 then redis.call('HDEL', all, task) end
end
local function free(base, beats, limit)
    local running = base .. ':running'
    if redis.call('HLEN', running) >= limit then
        local all = redis.call('HGETALL', running)
        for i = 1, #all, 2 do
            if gone(all[i + 1], beats) then redis.call('HDEL', running, all[i]) end
        end
    end
    return limit - redis.call('HLEN', running)
end
local function let_in(base, index, beats, limit)
    local waiting, messages = base .. ':waiting', base .. ':messages'
    local left = free(base, beats, limit)
    while left > 0 do
        local first = redis.call('ZRANGE', waiting, 0, 0)[1]
        if not first then break end
        local kept = redis.call('HGET', messages, first)
        if kept then
            local cut = string.find(kept, '\\n', 1, true)
            redis.call('RPUSH', string.sub(kept, 1, cut - 1), string.sub(kept, cut + 1))
            redis.call('HSET', base .. ':running', first, string.format('@%%d', now + %(reserve)d))
            redis.call('PEXPIRE', base .. ':running', %(keep)d)
            left = left - 1
        end
        redis.call('ZREM', waiting, first)
        redis.call('HDEL', messages, first)
        count(base, index, -1)
    end
    if redis.call('ZCARD', waiting) == 0 then
        redis.call('DEL', messages)
        redis.call('ZREM', index, base)
    else
        redis.call('ZADD', index, now + %(look)d, base)
    end
end
""" % {b"reserve": RESERVE_MS, b"keep": _KEEP_MS, b"look": LOOK_MS}

#: KEYS: running, waiting, messages, index. ARGV: base, prefix of heartbeats, how many may run, attempt, worker, list,
#: message. Answers 0: it has a slot; else how many wait, it and its message among them. May be carried out twice.
TAKE: Final = (
    _PRELUDE
    + b"""\
local base, beats, limit, attempt = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
if redis.call('HEXISTS', KEYS[1], attempt) == 0 then
    local ahead = redis.call('ZRANK', KEYS[2], attempt) or redis.call('ZCARD', KEYS[2])
    if free(base, beats, limit) <= ahead then
        if redis.call('ZADD', KEYS[2], 'NX', t[1] * 1000000 + t[2], attempt) == 1 then count(base, KEYS[4], 1) end
        redis.call('HSET', KEYS[3], attempt, ARGV[6] .. '\\n' .. ARGV[7], '', limit)
        let_in(base, KEYS[4], beats, limit)
        return math.max(1, redis.call('ZCARD', KEYS[2]))
    end
end
if redis.call('ZREM', KEYS[2], attempt) == 1 then count(base, KEYS[4], -1) end
redis.call('HDEL', KEYS[3], attempt)
redis.call('HSET', KEYS[1], attempt, string.format('%%d %%s', now, ARGV[5]))
redis.call('PEXPIRE', KEYS[1], %d)
return 0"""
    % _KEEP_MS
)

#: KEYS: as above. ARGV: base, prefix of heartbeats, attempt, worker. Gives its slot back, and sends who is next to the
#: queue. Not the slot of another worker that lives: there the same attempt runs again, since this one was cut off.
FREE: Final = (
    _PRELUDE
    + b"""\
local holder = redis.call('HGET', KEYS[1], ARGV[3])
if holder and (string.sub(holder, 1, 1) == '@' or worker_of(holder) == ARGV[4] or gone(holder, ARGV[2])) then
    redis.call('HDEL', KEYS[1], ARGV[3])
end
local limit = redis.call('HGET', KEYS[3], '')
if limit then let_in(ARGV[1], KEYS[4], ARGV[2], tonumber(limit)) end
return 1"""
)

#: KEYS: index. ARGV: prefix of heartbeats, most. Lets in who waits for slots that the dead have had. Answers how many
#: wait by task, as HGETALL does: counted anew if somebody has deleted messages that waited.
SWEEP: Final = (
    _PRELUDE
    + b"""\
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
local dropped = false
for _, base in ipairs(due) do
    local limit = redis.call('HGET', base .. ':messages', '')
    if limit then
        let_in(base, KEYS[1], ARGV[1], tonumber(limit))
    else
        dropped = true
        redis.call('ZREM', KEYS[1], base)
        redis.call('DEL', base .. ':waiting')
    end
end
if dropped then
    redis.call('DEL', KEYS[1] .. ':waiting')
    for _, base in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
        count(base, KEYS[1], redis.call('ZCARD', base .. ':waiting'))
    end
end
return redis.call('HGETALL', KEYS[1] .. ':waiting')"""
)


class Holding(msgspec.Struct, frozen=True):
    """What is written of a slot that is taken."""

    #: Who has it; empty while it is kept for a message on its way.
    worker: bytes
    #: Unix time in seconds since when it is had, or until when it is kept.
    at: float

    @classmethod
    def read(cls, text: bytes) -> Holding:
        """From a value of the hash; what is none of ours is nobody's."""
        ms, _, worker = text.removeprefix(b"@").partition(b" ")
        return cls(worker, int(ms) / 1000 if ms.isdigit() else 0.0)


class Slots(msgspec.Struct, frozen=True):
    """The commands about one key of one task."""

    keys: Keys
    task: str
    key: str

    @property
    def base(self) -> str:
        """What the names of its keys begin with."""
        return f"{self.keys.slots}:{self.task}:{self.key}"

    def _names(self) -> tuple[str, str, str, str]:
        base = self.base
        return f"{base}:running", f"{base}:waiting", f"{base}:messages", self.keys.slots

    def take(self, attempt: str, *, most: int, worker: bytes, queue: str, message: bytes) -> bytes:
        """Take a slot, or put the message among those that wait; from there it goes back to this list."""
        beats = self.keys.heartbeat("")
        return pack("EVAL", TAKE, 4, *self._names(), self.base, beats, most, attempt, worker, queue, message)

    def free(self, attempt: str, *, worker: bytes) -> bytes:
        """Give a slot back, if this worker has it, or nobody who lives."""
        return pack("EVAL", FREE, 4, *self._names(), self.base, self.keys.heartbeat(""), attempt, worker)

    def holder(self, attempt: str) -> bytes:
        """Ask who has a slot for this attempt: for `Holding.read`."""
        return pack("HGET", f"{self.base}:running", attempt)

    def waits(self, attempt: str) -> bytes:
        """Ask whether it waits."""
        return pack("HEXISTS", f"{self.base}:messages", attempt)


def sweep_words(keys: Keys) -> tuple[int, str, str, int]:
    """What follows the script SWEEP in its command."""
    return 1, keys.slots, keys.heartbeat(""), _MOST
