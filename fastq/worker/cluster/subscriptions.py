"""Hear what is published: the connection of the broker's set that only listens. Channels by name, a callback for each.

Pub/sub stores nothing: what is published while there is no connection is missed, as every Celery worker misses it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeAlias

from fastq import clock
from fastq.transport.redis import commands
from fastq.transport.redis.stream import Stream

logger: logging.Logger = logging.getLogger(__name__)

#: Called in the loop with the channel that something was published on, and with what it was.
Heard: TypeAlias = Callable[[bytes, bytes], None]

#: Characters that make a name a pattern for Redis.
_GLOB = frozenset("*?[\\")


class Subscriptions:
    """Who hears what. `add` and `remove` at any time; they hold over every reconnection."""

    def __init__(self) -> None:
        self._heard: dict[bytes, Heard] = {}
        self._asked: set[bytes] = set()  # channels that the current connection was told of
        self._pinged_at: float | None = None
        self.stream: Stream | None = None

    def __repr__(self) -> str:
        return f"<Subscriptions {sorted(self._heard)} {'up' if self.stream else 'down'}>"

    def add(self, channel: str, heard: Heard) -> None:
        """Call `heard(channel, data)` for what is published on `channel`: a name, or a pattern of Redis (PSUBSCRIBE).

        What one channel has been added with before is replaced. An exception of `heard` is logged. Sends without
        blocking; raises BrokerUnavailable, so call it through `Broker.pump` while the worker runs.
        """
        name = channel.encode()
        self._heard[name] = heard
        if self.stream is not None and name not in self._asked:
            self._asked.add(name)
            self.stream.send(_pack("SUBSCRIBE", [name]))

    def remove(self, channel: str) -> None:
        """Hear it no more; a channel that nobody has added is no error."""
        name = channel.encode()
        if self._heard.pop(name, None) is not None and self.stream is not None:
            self._asked.discard(name)
            self.stream.send(_pack("UNSUBSCRIBE", [name]))

    # The connection

    def greet(self, stream: Stream) -> set[bytes]:
        """Ask for all channels on a new connection, which `up` takes over; in the thread that has opened it, so that
        whoever sees the worker ready is heard."""
        names = set(self._heard)
        if names:
            stream.send(_pack("SUBSCRIBE", sorted(names)))
        return names

    def up(self, stream: Stream, *, asked: set[bytes]) -> None:
        """The connection is there; `asked` is what `greet` has returned."""
        self.stream, self._asked, self._pinged_at = stream, asked, None
        for missed in set(self._heard) - asked:
            self.add(missed.decode(), self._heard[missed])

    def lost(self) -> None:
        """The connection is gone."""
        self.stream, self._pinged_at = None, None

    def ping(self) -> None:
        """Have the server answer, so that `silent_s` tells whether it does."""
        if self.stream is not None and self._pinged_at is None:
            self._pinged_at = clock.monotonic()
            self.stream.send(commands.pack("PING"))

    @property
    def silent_s(self) -> float:
        """Seconds for which the server has not answered."""
        return 0.0 if self._pinged_at is None else clock.monotonic() - self._pinged_at

    def ready(self, stream: Stream) -> None:
        """Something has arrived."""
        stream.receive()
        self._pinged_at = None  # whatever it is, somebody is there
        while self.stream is stream:  # a callback may end that
            whole, message = stream.reader.value()
            if not whole:
                return
            self._take(message)

    def _take(self, message: object) -> None:
        if isinstance(message, list) and message[0] == b"message":
            _kind, channel, data = message
            self._tell(channel, channel, data)
        elif isinstance(message, list) and message[0] == b"pmessage":
            _kind, pattern, channel, data = message
            self._tell(pattern, channel, data)
        elif isinstance(message, RuntimeError):
            logger.error("Redis refused a subscription: %s. Remote control or broadcasts do not work.", message)

    def _tell(self, name: bytes, channel: bytes, data: bytes) -> None:
        heard = self._heard.get(name)
        if heard is None:
            return  # it was removed, and this was on its way
        try:
            heard(channel, data)
        except Exception:
            # What is published comes from anybody; nothing of it may end the worker.
            logger.exception("What was published on %r could not be handled: %r", channel, data[:500])


def _pack(command: str, names: Iterable[bytes]) -> bytes:
    """(P)SUBSCRIBE and (P)UNSUBSCRIBE for names and patterns."""
    known = list(names)
    patterns = [name for name in known if _GLOB & set(name.decode())]
    plain = [name for name in known if name not in patterns]
    packed = commands.pack(command, *plain) if plain else b""
    return packed + (commands.pack(f"P{command}", *patterns) if patterns else b"")
