"""Let one process at a time send what is due in an application, and each due time once.

The lead is a key with a short life. Its value is the term, a number that only grows, and the name of who leads. Each
step is one script that looks whether this value still stands: who was paused for longer than the lead lives finds
another's, or none, and has done nothing. A script is not interrupted, so there is no instant at which a due time is
recorded and its message is not sent, or the other way round. The clock is the server's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
import redis

from fastq.transport.redis.keys import Keys
from fastq.transport.redis.locks import Lock

#: Milliseconds that a lead outlives its holder: as long nothing is sent after a crash.
LEAD_MS: Final = 5_000

#: Milliseconds for which entries are remembered after the last look at them: longer than a yearly entry's year.
_KEEP_MS: Final = 400 * 24 * 3600 * 1000

_NOW: Final = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

#: KEYS: lead, term. ARGV: who, milliseconds. Answers: our value or "", who leads, milliseconds that are left, now.
_CAMPAIGN: Final = (
    _NOW
    + """
local holder = redis.call('GET', KEYS[1])
if holder then return {'', holder, redis.call('PTTL', KEYS[1]), now} end
local value = redis.call('INCR', KEYS[2]) .. ' ' .. ARGV[1]
redis.call('SET', KEYS[1], value, 'PX', ARGV[2])
return {value, value, tonumber(ARGV[2]), now}
"""
)

#: KEYS: lead, entries. ARGV: value, milliseconds to keep, then name, spec and start of each entry ("": now). Answers:
#: the entries, or nil. An entry is "DUE SENT SPEC": the due time that was done last, and when it was sent (0: never).
_ENTER: Final = (
    _NOW
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local wanted = {}
for i = 3, #ARGV, 3 do
    wanted[ARGV[i]] = true
    local known = redis.call('HGET', KEYS[2], ARGV[i])
    if not known or string.match(known, '^%d+ %d+ (.*)$') ~= ARGV[i + 1] then
        local start = tonumber(ARGV[i + 2]) or now
        redis.call('HSET', KEYS[2], ARGV[i], string.format('%.0f 0 ', start) .. ARGV[i + 1])
    end
end
for _, name in ipairs(redis.call('HKEYS', KEYS[2])) do
    if not wanted[name] then redis.call('HDEL', KEYS[2], name) end
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return redis.call('HGETALL', KEYS[2])
"""
)

#: KEYS: lead, entries. ARGV: value, milliseconds, milliseconds to keep. Answers: whether it is ours, and now.
_RENEW: Final = (
    _NOW
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {0, now} end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return {1, now}
"""
)

#: KEYS: lead, entries, queue, and the lock of a unique task. ARGV: value, name, due time, spec, message ("": none), and
#: of a unique task: id, milliseconds. Answers: "sent", "done" if this due time was done before, "lost", "held" if
#: another has the lock: then it is only recorded. The push comes first: where it is refused, nothing has been recorded.
_FIRE: Final = (
    _NOW
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lost' end
local known = redis.call('HGET', KEYS[2], ARGV[2])
local last, sent = string.match(known or '', '^(%d+) (%d+) ')
if last and tonumber(last) >= tonumber(ARGV[3]) then return 'done' end
local held = KEYS[4] and redis.call('EXISTS', KEYS[4]) == 1
if ARGV[5] ~= '' and not held then
    redis.call('LPUSH', KEYS[3], ARGV[5])
    if KEYS[4] then redis.call('SET', KEYS[4], ARGV[6], 'PX', ARGV[7]) end
    sent = string.format('%.0f', now)
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. ' ' .. (sent or '0') .. ' ' .. ARGV[4])
return held and 'held' or 'sent'
"""
)

#: KEYS: lead. ARGV: value.
_LEAVE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class EntryState(msgspec.Struct, frozen=True, kw_only=True):
    """What the server knows of an entry. Milliseconds since 1970."""

    #: The due time that was done last; of a new entry, when it came.
    last_ms: int
    #: When a message was sent last; 0: never.
    sent_ms: int
    #: The schedule as text.
    spec: str


class Campaign(msgspec.Struct, frozen=True, kw_only=True):
    """How asking for the lead ended."""

    #: What says that the lead is ours, for all further steps; "" if another has it.
    lead: str
    #: Who has it: the term and the name.
    holder: str
    left_ms: int
    now_ms: int


class ScheduleStore:
    """The schedule of the application `app` on one server. Every method blocks, and raises redis-py's errors."""

    def __init__(self, client: redis.Redis, *, app: str, keys: Keys, lead_ms: int = LEAD_MS) -> None:
        self._lead, self._entries = keys.schedule(app), keys.schedule_entries(app)
        self._term, self._lead_ms = keys.schedule_term(app), lead_ms
        self._client: Any = client
        self._campaign, self._enter, self._renew, self._fire, self._leave = (
            client.register_script(text) for text in (_CAMPAIGN, _ENTER, _RENEW, _FIRE, _LEAVE)
        )

    def campaign(self, who: str) -> Campaign:
        """Take the lead if nobody has it."""
        lead, holder, left, now = self._ask(self._campaign, [self._lead, self._term], [who, self._lead_ms])
        return Campaign(lead=lead.decode(), holder=holder.decode(), left_ms=left, now_ms=now)

    def enter(
        self, lead: str, specs: Mapping[str, str], *, remembered: Mapping[str, int]
    ) -> dict[str, EntryState] | None:
        """Make these the entries, by name, and say what was done of each; None: the lead is lost.

        An entry that the server does not know with this spec starts at the due time that is `remembered` of it, or
        else now; one that is not named is forgotten.
        """
        words = [word for name, spec in specs.items() for word in (name, spec, remembered.get(name, ""))]
        found = self._ask(self._enter, [self._lead, self._entries], [lead, _KEEP_MS, *words])
        return None if found is None else _states(dict(zip(found[::2], found[1::2], strict=True)))

    def renew(self, lead: str) -> int | None:
        """Keep the lead; the server's time in milliseconds, or None if it is lost."""
        ours, now = self._ask(self._renew, [self._lead, self._entries], [lead, self._lead_ms, _KEEP_MS])
        return now if ours else None

    def fire(
        self,
        lead: str,
        name: str,
        *,
        due_ms: int,
        spec: str,
        queue: str,
        message: bytes | str,
        lock: Lock | None = None,
        task_id: str = "",
    ) -> Literal["sent", "done", "lost", "held"]:
        """Send the message of a due time to the list `queue`, and record it. An empty message, or a lock that another
        task has: only record it. A lock that is free is this task's from then on."""
        keys, words = [self._lead, self._entries, queue], [lead, name, due_ms, spec, message]
        if lock is not None:
            keys, words = [*keys, lock.key], [*words, task_id, lock.hold_ms]
        answer: bytes = self._ask(self._fire, keys, words)
        return answer.decode()  # type: ignore[return-value]

    def leave(self, lead: str) -> None:
        """Give the lead back, if it is ours."""
        self._ask(self._leave, [self._lead], [lead])

    def look(self) -> tuple[str, dict[str, EntryState], int]:
        """Who leads ("": nobody), all entries by name, and the server's time in milliseconds. Changes nothing."""
        pipe: Any = self._client.pipeline(transaction=True)
        with pipe:
            pipe.get(self._lead)
            pipe.hgetall(self._entries)
            pipe.time()
            holder, entries, (seconds, micros) = pipe.execute()
        return (holder or b"").decode(), _states(entries), seconds * 1000 + micros // 1000

    @staticmethod
    def _ask(script: Any, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        return script(keys=keys, args=arguments)


def _states(entries: Mapping[bytes, bytes]) -> dict[str, EntryState]:
    found = {}
    for name, value in entries.items():
        last, sent, spec = value.decode().split(" ", 2)
        found[name.decode()] = EntryState(last_ms=int(last), sent_ms=int(sent), spec=spec)
    return found
