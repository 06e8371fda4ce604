"""Count the parts of chords in Redis, with the keys of Celery 5.7's backend, so that all workers count together.

For the group GID of the header there are, behind `celery-taskset-meta-GID`:

    .s  how many parts there will be       .t  how many more were added      .j  the parts, by their place in the header
    .d  which parts are there              .c  who sends the body: a token with an expiry, and "done" afterwards
        the key itself: the shape of the results, if members of the header have lists of them

Every worker that ends a task of the header adds its part. Who completes them takes the claim, reads all parts, and
sends the body. A claim expires, so that another can send it if that worker dies. What differs from Celery:

- A part that comes twice while somebody else has the claim is told so (`Counted.waits`): it comes from a task that was
  started again after its worker died in between.
- A body that goes to the same server is sent in one step with the end of the chord.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from fastq.results.redis import command
from fastq.wire.kombu_json import encode_text

#: What stands before a group's id in its keys.
GROUP_KEY: Final = "celery-taskset-meta-"

#: Seconds that reading the parts may take: Celery's max(5, 2 x result_chord_join_timeout).
CLAIM_S: Final = 6

#: Seconds that sending the body may take: what Celery's publish policy comes to with its defaults.
SEND_S: Final = 21

#: Seconds for which a chord that is through is remembered.
DONE_S: Final = 300

#: KEYS: .j .t .s .d .c and the group. ARGV: id, part, place in the header, seconds to live, seconds of the claim, token
#: Returns parts there, parts wanted (-1: not known), and 1: ours to send, 2: somebody else is at it, 0: neither.
COUNT: Final = b"""\
if redis.call('GET', KEYS[5]) == 'done' then return {-1, 0, 0} end
local member = ARGV[1] .. ':' .. ARGV[3]
if redis.call('SISMEMBER', KEYS[4], member) == 0 then
    redis.call('ZADD', KEYS[1], ARGV[3], ARGV[2])
    redis.call('SADD', KEYS[4], member)
end
local there = redis.call('ZCARD', KEYS[1])
if tonumber(ARGV[4]) > 0 then
    for _, key in ipairs(KEYS) do
        if key ~= KEYS[5] then redis.call('EXPIRE', key, ARGV[4]) end
    end
end
local size = redis.call('GET', KEYS[3])
if not size then return {there, -1, 0} end
local wanted = tonumber(size) + tonumber(redis.call('GET', KEYS[2]) or 0)
if there ~= wanted then return {there, wanted, 0} end
if redis.call('SET', KEYS[5], ARGV[6], 'NX', 'EX', ARGV[5]) then return {there, wanted, 1} end
if redis.call('GET', KEYS[5]) == ARGV[6] then return {there, wanted, 1} end
return {there, wanted, 2}"""

#: KEYS: .c .s. ARGV: token, seconds. Returns whether the claim is still ours, or again.
EXTEND: Final = b"""\
local owner = redis.call('GET', KEYS[1])
if owner == ARGV[1] then return redis.call('EXPIRE', KEYS[1], ARGV[2]) end
if not owner and redis.call('EXISTS', KEYS[2]) == 1 then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
    return 1
end
return 0"""

#: KEYS: .j .t .s .d .c, then a queue for each message. ARGV: token, seconds, the messages.
FINISH: Final = b"""\
if redis.call('GET', KEYS[5]) ~= ARGV[1] then return 0 end
for n = 6, #KEYS do redis.call('LPUSH', KEYS[n], ARGV[n - 3]) end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('SET', KEYS[5], 'done', 'EX', ARGV[2])
return 1"""


class Counted(NamedTuple):
    """What came of a part."""

    there: int
    wanted: int
    state: int

    @property
    def is_ours(self) -> bool:
        """Whether this worker has to send the body."""
        return self.state == 1

    @property
    def waits(self) -> bool:
        """Whether all parts are there, and somebody else has said that it sends the body."""
        return self.state == 2


class Keys:
    """The keys of one chord."""

    def __init__(self, prefix: str, group_id: str) -> None:
        self.group: bytes = f"{prefix}{GROUP_KEY}{group_id}".encode()
        self.parts: bytes = self.group + b".j"
        self.more: bytes = self.group + b".t"
        self.size: bytes = self.group + b".s"
        self.seen: bytes = self.group + b".d"
        self.claim: bytes = self.group + b".c"

    def count(self, task_id: str, part: bytes, *, place: int | None, expires_s: int, token: str) -> bytes:
        """The command that adds a part; its reply makes a `Counted`."""
        at = "+inf" if place is None else str(place)
        keys = (self.parts, self.more, self.size, self.seen, self.claim, self.group)
        arguments = (task_id.encode(), part, at.encode(), _text(expires_s), _text(CLAIM_S), token.encode())
        return command(b"EVAL", COUNT, b"6", *keys, *arguments)

    def read(self) -> tuple[int, bytes]:
        """The commands that read the shape, and all parts in the order of the header."""
        return 2, command(b"GET", self.group) + command(b"ZRANGE", self.parts, b"0", b"-1")

    def extend(self, token: str) -> bytes:
        """The command that holds the claim for as long as sending may take."""
        return command(b"EVAL", EXTEND, b"2", self.claim, self.size, token.encode(), _text(SEND_S))

    def finish(self, token: str, messages: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
        """The command that ends the chord, and pushes (queue, message) with it, unless the claim was lost."""
        keys = (self.parts, self.more, self.size, self.seen, self.claim, *(queue for queue, _ in messages))
        texts = (message for _, message in messages)
        return command(b"EVAL", FINISH, _text(len(keys)), *keys, token.encode(), _text(DONE_S), *texts)

    def fail(self) -> bytes:
        """The command after which a chord that has failed does not fail again."""
        return command(b"DEL", self.size)


def setup(prefix: str, group_id: str, *, size: int, shape: list[Any] | None, expires_s: int) -> tuple[int, bytes]:
    """The commands before the header is sent. A group id that is used again is a new chord."""
    keys = Keys(prefix, group_id)
    life = (b"EX", _text(expires_s)) if expires_s else ()
    found = [command(b"DEL", keys.claim), command(b"SET", keys.size, _text(size), *life)]
    if shape is not None:
        found.append(command(b"SET", keys.group, encode_text({"result": shape}).encode(), *life))
    return len(found), b"".join(found)


def part(task_id: str, state: str, value: Any) -> bytes:
    """A part as Celery writes it. Raises what encoding raises."""
    return encode_text([1, task_id, state, value]).encode()


def _text(number: int) -> bytes:
    return str(number).encode()
