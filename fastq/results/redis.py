"""Results on Redis as Celery stores them: the commands, for whoever writes results through the engine."""

from __future__ import annotations

#: Writes a state unless SUCCESS is stored already: Celery looks first, with a round trip of its own. The text compared
#: is the beginning of every result that Celery encodes as JSON. ARGV: the result, its seconds to live (0: for ever),
#: and for states that are no end the time when this attempt began. They may come late: the message of the next attempt
#: is on its way before RETRY is stored, and the end of a chord's part takes another connection. An end must stay.
SCRIPT = b"""\
local old = redis.call('GET', KEYS[1])
if old and string.sub(old, 1, 20) == '{"status": "SUCCESS"' then return 0 end
if old and ARGV[3] ~= '' then
    local done = string.match(old, '"date_done": "([^"]+)"')
    if done and done >= ARGV[3] then return 0 end
end
if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1]) else redis.call('SETEX', KEYS[1], ARGV[2], ARGV[1]) end
redis.call('PUBLISH', KEYS[1], ARGV[1])
return 1"""

#: States that are an end: they have a date, and overwrite each other.
ENDS = ("SUCCESS", "FAILURE", "REVOKED")


def set_commands(key: bytes, value: bytes, expires_s: int | None) -> tuple[int, bytes]:
    """(2, the two commands) that Celery stores a result with."""
    write = (b"SETEX", key, str(int(expires_s)).encode(), value) if expires_s else (b"SET", key, value)
    return 2, command(*write) + command(b"PUBLISH", key, value)


def guarded(key: bytes, value: bytes, expires_s: int | None, *, began: str = "") -> tuple[int, bytes]:
    """(1, the command) that stores a state unless SUCCESS is there, or anything that ended after `began`."""
    return 1, command(b"EVAL", SCRIPT, b"1", key, value, str(int(expires_s or 0)).encode(), began.encode())


#: What a guarded command begins with, up to its key.
GUARD = b"*7\r\n$4\r\nEVAL\r\n$%d\r\n%b\r\n$1\r\n1\r\n" % (len(SCRIPT), SCRIPT)


def command(*words: bytes) -> bytes:
    """One command in Redis' protocol."""
    return b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)])
