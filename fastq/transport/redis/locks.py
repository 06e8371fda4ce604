"""Locks of unique tasks: keys that hold the id of the task that has them, and expire. The scripts, and the commands.

Each may be carried out twice: the lock has the task's own id then.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fastq.transport.redis.commands import pack

#: KEYS: lock, list. ARGV: id, milliseconds, message. Returns whose the lock was, "" if it was free: then it is ours
#: now, and the message is sent. The message first: if the server refuses it, nothing is locked.
SEND: Final = b"""\
local holder = redis.call('GET', KEYS[1])
if holder then return holder end
redis.call('LPUSH', KEYS[2], ARGV[3])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''"""

#: KEYS: lock. ARGV: id, milliseconds. Keeps a lock for longer, if it is ours. One that is gone is not taken again: the
#: next attempt may have run and ended already.
KEEP: Final = b"""\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1"""

#: KEYS: lock. ARGV: id. Gives it back, if it is ours.
RELEASE: Final = b"""\
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0"""


class Lock(NamedTuple):
    """What a task has while it waits or runs."""

    key: str
    hold_ms: int


def keep(lock: Lock, task_id: str) -> bytes:
    """The command that keeps a lock for longer, if it is this task's."""
    return pack("EVAL", KEEP, 1, lock.key, task_id, lock.hold_ms)


def release(key: str, task_id: str) -> bytes:
    """The command that gives a lock back, if it is this task's."""
    return pack("EVAL", RELEASE, 1, key, task_id)
