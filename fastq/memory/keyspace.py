"""The keys of one database and the commands on them, as Redis has them: only those that fastq and its clients use.

Values are bytes, deques (lists), dicts (hashes), sets and `Sorted`. A command gets its words without the name and
returns what `server.encode` can write. Whatever is not here is refused by name, so that nobody tests against a guess.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastq import clock

Words = Sequence[bytes]
Command = Callable[["Keyspace", Words], Any]
#: A script of fastq's, done in Python: keyspace, keys, arguments.
Script = Callable[["Keyspace", Words, Words], Any]
Kind = TypeVar("Kind", bytes, "deque[bytes]", "dict[bytes, bytes]", "set[bytes]", "Sorted")

#: By their names in capitals.
COMMANDS: dict[bytes, Command] = {}

#: By their text.
SCRIPTS: dict[bytes, Script] = {}


class Sorted(dict[bytes, float]):
    """A sorted set: members and their scores."""

    def between(self, low: float, high: float) -> list[bytes]:
        """The members with such scores, in their order."""
        return [member for score, member in sorted((score, m) for m, score in self.items()) if low <= score <= high]


class Status(bytes):
    """An answer that is a word: OK, PONG, QUEUED, the name of a type."""


class Refused(Exception):
    """A command cannot be done; the text is Redis' answer."""


OK = Status(b"OK")

#: How TYPE calls them.
TYPES: dict[type, bytes] = {bytes: b"string", deque: b"list", dict: b"hash", set: b"set", Sorted: b"zset"}


def command(*names: str) -> Callable[[Command], Command]:
    """Register a function as these commands."""

    def register(function: Command) -> Command:
        COMMANDS.update({name.encode(): function for name in names})
        return function

    return register


def script(text: bytes) -> Callable[[Script], Script]:
    """Register a function as what this Lua script does."""

    def register(function: Script) -> Script:
        SCRIPTS[text] = function
        return function

    return register


class Keyspace:
    """One database. `publish` is set by whoever has subscribers."""

    def __init__(self) -> None:
        self._data: dict[bytes, Any] = {}
        self._until: dict[bytes, float] = {}
        self._changes: dict[bytes, int] = {}
        #: Set when something was put into a list, which somebody may wait for.
        self.pushed = False
        self.publish: Callable[[bytes, bytes], int] = lambda channel, message: 0

    def run(self, words: Words) -> Any:
        """Do one command. Raises Refused."""
        found = COMMANDS.get(words[0].upper())
        if found is None:
            name = words[0].decode(errors="replace")
            raise Refused(f"ERR unknown command '{name}': the memory transport has only what fastq uses; use a Redis")
        try:
            return found(self, words[1:])
        except (IndexError, ValueError) as error:
            raise Refused(f"ERR wrong arguments for '{words[0].decode(errors='replace')}': {error}") from error

    # ------------------------------------------------------------------------ values

    def find(self, key: bytes, kind: type[Kind]) -> Kind | None:
        """The value, unless it is not there or its time is over. Raises Refused for one of another type."""
        value = self.look(key)
        if value is not None and type(value) is not kind:
            raise Refused("WRONGTYPE Operation against a key holding the wrong kind of value")
        return value

    def look(self, key: bytes) -> Any:
        """The value of any type, or None."""
        until = self._until.get(key)
        if until is not None and until <= clock.now():
            self.drop(key)
        return self._data.get(key)

    def have(self, key: bytes, kind: type[Kind]) -> Kind:
        """The value, made if it is not there, to be changed: call `changed` afterwards."""
        value = self.find(key, kind)
        if value is None:
            value = self._data[key] = kind()
        return value

    def put(self, key: bytes, value: bytes, *, until: float | None) -> None:
        """Set a text, whatever was there."""
        self._data[key] = value
        self._until.pop(key, None)
        if until is not None:
            self._until[key] = until
        self.changed(key)

    def changed(self, key: bytes) -> None:
        """Note a change; what is empty now is not there any more."""
        self._changes[key] = self._changes.get(key, 0) + 1
        value = self._data.get(key)
        if value is not None and not value and not isinstance(value, bytes):
            self._data.pop(key)
            self._until.pop(key, None)

    def drop(self, key: bytes) -> bool:
        """Delete a key; False if there was none."""
        self._until.pop(key, None)
        there = self._data.pop(key, None) is not None
        if there:
            self.changed(key)
        return there

    def version(self, key: bytes) -> int:
        """Counts changes, for WATCH."""
        self.look(key)
        return self._changes.get(key, 0)

    def keys(self) -> list[bytes]:
        """All keys."""
        return [key for key in list(self._data) if self.look(key) is not None]

    def expire(self, key: bytes, until: float | None) -> int:
        """Set the moment at which it goes away; None: it stays. 0 if it is not there."""
        if self.look(key) is None:
            return 0
        self._until.pop(key, None)
        if until is not None:
            self._until[key] = until
        self.changed(key)
        return 1

    def left_s(self, key: bytes) -> float | None:
        """Seconds that it has left; None: for ever."""
        until = self._until.get(key)
        return None if until is None else until - clock.now()

    def clear(self) -> None:
        """Delete everything."""
        for key in list(self._data):
            self.drop(key)
