"""Serve a keyspace on a Unix socket: one thread, RESP 2, with what needs to know who asks.

That is transactions (MULTI, WATCH), waiting (BLMOVE, BRPOP, BLPOP) and subscriptions. The socket listens from the
moment it is made: who connects before `serve` runs waits for its answer.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable
from typing import Any

import hiredis
from redis.lock import Lock

from fastq import clock
from fastq.memory.commands import matching, take
from fastq.memory.keyspace import COMMANDS, OK, Keyspace, Refused, Status, Words, script

#: Bytes read at once.
READ_BYTES = 1 << 18

#: Commands that a client may wait in, and the words at their end that are no keys.
_WAITING = (b"BLMOVE", b"BRPOPLPUSH", b"BRPOP", b"BLPOP")


@script(Lock.LUA_RELEASE_SCRIPT.encode())
def _release(space: Keyspace, keys: Words, words: Words) -> Any:
    """redis-py's locks: delete it if it is ours."""
    return int(space.look(keys[0]) == words[0] and space.drop(keys[0]))


class NoArray:
    """Redis' answer where an array was asked for and there is none."""


NO_ARRAY = NoArray()


def encode(value: Any) -> bytes:
    """An answer as RESP 2."""
    if isinstance(value, Status):
        return b"+%b\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if isinstance(value, bool | int):
        return b":%d\r\n" % value
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, float):
        return encode(f"{value:.17g}".encode())
    if isinstance(value, Refused):
        return b"-%b\r\n" % str(value).encode()
    if value is NO_ARRAY:
        return b"*-1\r\n"
    return b"*%d\r\n%b" % (len(value), b"".join(encode(item) for item in value))


class Client:
    """One connection."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        sock.setblocking(False)
        self.sock: socket.socket = sock
        self.number: int = number
        self.name: bytes = b""
        self.db: int = 0
        self.reader: hiredis.Reader = hiredis.Reader()
        self.unsent: bytearray = bytearray()
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        #: Commands after MULTI; None outside.
        self.queued: list[Words] | None = None
        self.spoilt = False
        self.watched: dict[tuple[int, bytes], int] = {}
        #: What it waits in, and until when (0: for ever).
        self.waits: Words | None = None
        self.until: float = 0.0

    @property
    def subscriptions(self) -> int:
        return len(self.channels) + len(self.patterns)


class MemoryServer:
    """Listens at `path`. `serve` runs it until `stop`; both may be in different threads."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._spaces: dict[int, Keyspace] = {}
        self._clients: dict[int, Client] = {}
        self._parked: dict[Client, None] = {}
        self._numbers = 0
        self._stopped = False
        self._poll = select.epoll()
        self._poll.register(self._listener.fileno(), select.EPOLLIN)

    @property
    def url(self) -> str:
        """Database 0 of this server, for everything that takes a Redis URL."""
        return f"redis+socket://{self.path}?virtual_host=0"

    # ------------------------------------------------------------------------ loop

    def serve(self) -> None:
        """Answer until `stop`. Blocks."""
        while not self._stopped:
            found = self._poll.poll(self._patience_s())
            # Looked up before any of them has its turn: who is accepted meanwhile may get the number of one that goes.
            for fd, client, events in [(fd, self._clients.get(fd), events) for fd, events in found]:
                if fd == self._listener.fileno():
                    self._accept()
                elif client is not None and client.sock.fileno() >= 0:
                    self._turn(client, events)
            self._give_up_waiting()

    def stop(self) -> None:
        """End `serve` within a tenth of a second."""
        self._stopped = True

    def close(self) -> None:
        """Let go of everything; after `serve` has ended, or without it."""
        for client in list(self._clients.values()):
            self._drop(client)
        self._listener.close()
        self._poll.close()

    def _patience_s(self) -> float:
        ends = [client.until for client in self._parked if client.until]
        return max(0.0, min([0.1, *(end - clock.monotonic() for end in ends)]))

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self._listener.accept()
                self._numbers += 1
                self._clients[sock.fileno()] = Client(sock, self._numbers)
                self._poll.register(sock.fileno(), select.EPOLLIN)

    def _turn(self, client: Client, events: int) -> None:
        try:
            if events & ~select.EPOLLOUT:
                self._read(client)
            self._write(client)
        except (OSError, hiredis.ProtocolError):
            self._drop(client)

    def _read(self, client: Client) -> None:
        data = client.sock.recv(READ_BYTES)
        if not data:
            raise ConnectionResetError
        client.reader.feed(data)
        self._go_on(client)

    def _go_on(self, client: Client) -> None:
        """Do what has been sent, up to a command in which the client waits."""
        while client.waits is None and (words := client.reader.gets()) is not False:
            self._answer(client, words)

    def _write(self, client: Client) -> None:
        if client.unsent:
            try:
                del client.unsent[: client.sock.send(client.unsent)]
            except BlockingIOError:
                pass
        self._poll.modify(client.sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if client.unsent else 0))

    def _drop(self, client: Client) -> None:
        self._parked.pop(client, None)
        self._clients.pop(client.sock.fileno(), None)
        with contextlib.suppress(OSError):
            self._poll.unregister(client.sock.fileno())
        client.sock.close()

    def _say(self, client: Client, value: Any) -> None:
        client.unsent += encode(value)

    # ------------------------------------------------------------------------ one command

    def space(self, db: int) -> Keyspace:
        """A database, made when it is used first."""
        found = self._spaces.get(db)
        if found is None:
            found = self._spaces[db] = Keyspace()
            found.publish = self._publish
        return found

    def _answer(self, client: Client, words: Words) -> None:
        name = words[0].upper()
        if client.queued is not None and name not in (b"EXEC", b"DISCARD", b"MULTI", b"WATCH"):
            self._queue(client, name, words)
        elif name in _WAITING:
            self._wait(client, words)
        else:
            self._say(client, self._run(client, name, words))
        self._serve_waiting()

    def _queue(self, client: Client, name: bytes, words: Words) -> None:
        assert client.queued is not None
        if name in COMMANDS or name in _OWN:
            client.queued.append(words)
            self._say(client, Status(b"QUEUED"))
        else:
            client.spoilt = True
            self._say(client, Refused(f"ERR unknown command '{words[0].decode(errors='replace')}'"))

    def _run(self, client: Client, name: bytes, words: Words) -> Any:
        try:
            own = _OWN.get(name)
            return own(self, client, words[1:]) if own is not None else self.space(client.db).run(words)
        except Refused as refused:
            return refused

    # ------------------------------------------------------------------------ waiting

    def _wait(self, client: Client, words: Words) -> None:
        found = self._try(client, words)
        if found is not NO_ARRAY:
            self._say(client, found)
            return
        timeout_s = float(words[-1])
        client.waits, client.until = words, clock.monotonic() + timeout_s if timeout_s else 0.0
        self._parked[client] = None

    def _try(self, client: Client, words: Words) -> Any:
        """What a waiting command gets now; NO_ARRAY for nothing."""
        space, name = self.space(client.db), words[0].upper()
        try:
            if name in (b"BRPOP", b"BLPOP"):
                for key in words[1:-1]:
                    value = take(space, key, left=name == b"BLPOP")
                    if value is not None:
                        return [key, value]
                return NO_ARRAY
            ways = words[3:5] if name == b"BLMOVE" else (b"RIGHT", b"LEFT")
            value = space.run([b"LMOVE", *words[1:3], *ways])
            return NO_ARRAY if value is None else value
        except Refused as refused:
            return refused

    def _serve_waiting(self) -> None:
        while any(space.pushed for space in self._spaces.values()):
            for space in self._spaces.values():
                space.pushed = False
            for client in list(self._parked):
                assert client.waits is not None
                found = self._try(client, client.waits)
                if found is not NO_ARRAY:
                    self._wake(client, found)

    def _wake(self, client: Client, answer: Any) -> None:
        """Give a waiting client its answer, and go on with what it has sent meanwhile."""
        self._parked.pop(client, None)
        client.waits = None
        self._say(client, answer)
        self._go_on(client)
        with contextlib.suppress(OSError):
            self._write(client)

    def _give_up_waiting(self) -> None:
        now = clock.monotonic()
        for client in [client for client in self._parked if client.until and client.until <= now]:
            self._wake(client, NO_ARRAY)

    # ------------------------------------------------------------------------ what needs to know who asks

    def _multi(self, client: Client, _words: Words) -> Any:
        client.queued, client.spoilt = [], False
        return OK

    def _exec(self, client: Client, _words: Words) -> Any:
        if client.queued is None:
            raise Refused("ERR EXEC without MULTI")
        queued, client.queued = client.queued, None
        watched, client.watched = client.watched, {}
        if client.spoilt:
            raise Refused("EXECABORT Transaction discarded because of previous errors.")
        if any(self.space(db).version(key) != seen for (db, key), seen in watched.items()):
            return NO_ARRAY
        return [self._run(client, words[0].upper(), words) for words in queued]

    def _discard(self, client: Client, _words: Words) -> Any:
        client.queued, client.watched = None, {}
        return OK

    def _watch(self, client: Client, words: Words) -> Any:
        space = self.space(client.db)
        client.watched.update({(client.db, key): space.version(key) for key in words})
        return OK

    def _unwatch(self, client: Client, _words: Words) -> Any:
        client.watched = {}
        return OK

    def _select(self, client: Client, words: Words) -> Any:
        client.db = int(words[0])
        return OK

    def _client(self, client: Client, words: Words) -> Any:
        asked = words[0].upper()
        if asked == b"ID":
            return client.number
        if asked == b"SETNAME":
            client.name = words[1]
        if asked == b"UNBLOCK":
            found = [other for other in self._parked if other.number == int(words[1])]
            for other in found:
                self._wake(other, NO_ARRAY)
            return len(found)
        if asked == b"LIST":
            lines = [f"id={one.number} name={one.name.decode()} db={one.db}\n" for one in self._clients.values()]
            return "".join(lines).encode()
        return OK

    def _info(self, _client: Client, _words: Words) -> Any:
        return b"# Server\r\nredis_version:7.0.0\r\nredis_mode:standalone\r\n# Replication\r\nrole:master\r\n"

    def _ping(self, client: Client, words: Words) -> Any:
        if client.subscriptions:
            return [b"pong", *words[:1]] if words else [b"pong", b""]
        return words[0] if words else Status(b"PONG")

    # ------------------------------------------------------------------------ subscriptions

    def _subscribe(self, client: Client, words: Words) -> Any:
        return self._change(client, client.channels, b"subscribe", words, add=True)

    def _psubscribe(self, client: Client, words: Words) -> Any:
        return self._change(client, client.patterns, b"psubscribe", words, add=True)

    def _unsubscribe(self, client: Client, words: Words) -> Any:
        return self._change(client, client.channels, b"unsubscribe", words or list(client.channels), add=False)

    def _punsubscribe(self, client: Client, words: Words) -> Any:
        return self._change(client, client.patterns, b"punsubscribe", words or list(client.patterns), add=False)

    def _change(self, client: Client, table: dict[bytes, None], name: bytes, words: Words, *, add: bool) -> Any:
        """One answer for each name; the last is returned, those before it are written."""
        answers: list[list[Any]] = []
        for word in words:
            table.update({word: None}) if add else table.pop(word, None)
            answers.append([name, word, client.subscriptions])
        for answer in answers[:-1]:
            self._say(client, answer)
        return answers[-1] if answers else [name, None, client.subscriptions]

    def _publish(self, channel: bytes, message: bytes) -> int:
        heard = 0
        for client in list(self._clients.values()):
            if channel in client.channels:
                self._say(client, [b"message", channel, message])
                heard += 1
            for pattern in client.patterns:
                if matching([channel], pattern):
                    self._say(client, [b"pmessage", pattern, channel, message])
                    heard += 1
            if client.unsent:
                with contextlib.suppress(OSError):
                    self._write(client)
        return heard

    def _pubsub(self, _client: Client, words: Words) -> Any:
        subscribed = [name for client in self._clients.values() for name in client.channels]
        if words[0].upper() == b"NUMSUB":
            return [part for name in words[1:] for part in (name, subscribed.count(name))]
        return matching(sorted(set(subscribed)), words[1] if len(words) > 1 else b"*")


_OWN: dict[bytes, Callable[[MemoryServer, Client, Words], Any]] = {
    b"MULTI": MemoryServer._multi,
    b"EXEC": MemoryServer._exec,
    b"DISCARD": MemoryServer._discard,
    b"WATCH": MemoryServer._watch,
    b"UNWATCH": MemoryServer._unwatch,
    b"SELECT": MemoryServer._select,
    b"CLIENT": MemoryServer._client,
    b"INFO": MemoryServer._info,
    b"PING": MemoryServer._ping,
    b"SUBSCRIBE": MemoryServer._subscribe,
    b"PSUBSCRIBE": MemoryServer._psubscribe,
    b"UNSUBSCRIBE": MemoryServer._unsubscribe,
    b"PUNSUBSCRIBE": MemoryServer._punsubscribe,
    b"PUBSUB": MemoryServer._pubsub,
}
