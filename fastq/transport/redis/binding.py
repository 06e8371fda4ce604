"""Declare and follow the bindings between exchanges and queues, as kombu keeps them in Redis."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec
import redis

from fastq.transport.redis.keys import Keys

#: Characters of a topic's routing key that are not escaped in its pattern.
_BARE: Final = ".#*"

#: Patterns of a word of a topic's routing key.
_WILDCARDS: Final = {"*": r"[^\.]+", "#": ".*?"}


class Binding(msgspec.Struct, frozen=True):
    """One queue bound to one exchange."""

    exchange: str
    type: Literal["direct", "topic", "fanout"]
    routing_key: str
    queue: str

    def member(self, *, separator: str) -> str:
        """What stands for it in the exchange's set: routing key, pattern, queue."""
        pattern = topic_pattern(self.routing_key) if self.type == "topic" else ""
        return separator.join([self.routing_key, pattern, self.queue])


def declare_bindings(client: redis.Redis, bindings: Iterable[Binding], *, keys: Keys) -> None:
    """Bind queues that do not expire, in one transaction. Doing so again changes nothing."""
    pipe: Any = client.pipeline(transaction=True)
    with pipe:
        for binding in bindings:
            member = binding.member(separator=keys.separator)
            pipe.sadd(keys.binding(binding.exchange), member)
            # Without this one, kombu's sweep after an expiring queue's deadline would delete the whole table.
            pipe.sadd(keys.binding_permanent(binding.exchange), member)
        pipe.execute()


def topic_pattern(routing_key: str) -> str:
    """The regular expression kombu stores for a topic binding, to the character: it is part of a set member."""
    escaped = "".join(_escape(character) for character in routing_key)
    return "^" + r"\.".join(_WILDCARDS.get(word, word) for word in escaped.split(".")) + "$"


def _escape(character: str) -> str:
    if character.isalnum() or character in _BARE:
        return character
    return r"\000" if character == "\0" else "\\" + character


def find_queues(client: redis.Redis, exchange: str, *, routing_key: str, keys: Keys) -> list[str]:
    """The queues a message goes to; none if its exchange has no matching binding.

    Types of exchanges are not stored in Redis. A stock worker takes one it has not declared for a direct exchange and
    loses a topic's message; here a member that has a pattern is matched by it, any other by its routing key.
    """
    if not exchange:
        found = [routing_key] if routing_key else []
    else:
        asked: Any = client
        members = (_parts(member, keys=keys) for member in asked.smembers(keys.binding(exchange)))
        found = sorted({queue for bound, pattern, queue in members if queue and _leads(bound, pattern, routing_key)})
    return found or ([keys.deadletter_queue] if keys.deadletter_queue else [])


def _parts(member: bytes, *, keys: Keys) -> tuple[str, str, str]:
    parts = member.decode("utf-8", "replace").split(keys.separator)
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else ("", "", "")


def _leads(bound: str, pattern: str, routing_key: str) -> bool:
    if not pattern:
        return bound == routing_key
    try:
        return re.match(pattern, routing_key) is not None
    except re.error:
        return False
