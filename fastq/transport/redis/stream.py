"""A connection that never blocks: what is to be sent waits here, what arrives goes to a compiled reader."""

from __future__ import annotations

import contextlib
import socket
import ssl

from fastq import _core
from fastq.errors import BrokerUnavailable
from fastq.transport.connect import OpenConnection

#: Bytes asked for by one recv(2). A claim of 256 messages is about 250,000.
RECEIVE_BYTES = 1 << 18

#: Bytes after which what has come is looked at first: children need not wait for the rest of a claim of large messages.
RECEIVE_MOST = 1 << 20

#: Milliseconds after which the kernel gives up a connection whose peer acknowledges nothing (TCP_USER_TIMEOUT).
SILENCE_MS = 10_000


class Stream:
    """One open connection of the engine's. Raises BrokerUnavailable when it is gone; then only `close` makes sense."""

    def __init__(self, connection: OpenConnection) -> None:
        self.reader: _core.Reader = _core.Reader()
        self._connection = connection
        self._sock = connection.sock
        self._unsent = bytearray()
        self._broken: OSError | None = None
        self._is_tls = isinstance(self._sock, ssl.SSLSocket)
        self._sock.setblocking(False)
        _tune(self._sock)

    def __repr__(self) -> str:
        return f"<Stream {self._connection.address.masked()} unsent={len(self._unsent)}>"

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def wants_to_write(self) -> bool:
        """True while the kernel has not taken everything: call `write` when the socket is writable."""
        return bool(self._unsent)

    def send(self, data: bytes) -> None:
        """Send `data`, now as far as the kernel takes it, the rest by `write`.

        Never fails: that the connection is gone is said by `receive` and `write`, which the loop calls at once then. So
        there is one place where losing it is handled, whoever wanted to send.
        """
        if self._unsent or self._broken is not None:
            self._unsent += data
            return
        sent = self._send_some(data)
        if sent < len(data):
            self._unsent += memoryview(data)[sent:]

    def write(self) -> None:
        """Go on sending. Raises BrokerUnavailable when the connection is gone."""
        self._check()
        while self._unsent:
            sent = self._send_some(self._unsent)
            if not sent:
                return
            del self._unsent[:sent]

    def _send_some(self, data: bytes | bytearray) -> int:
        try:
            return self._sock.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            self._broken = error
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)  # wakes the loop, if the error itself has not
            return 0

    def _check(self) -> None:
        if self._broken is not None:
            raise self._gone(self._broken) from self._broken

    def receive(self) -> None:
        """Take what has arrived to the reader; the rest at the next call, if it is much. Raises BrokerUnavailable when
        the connection is gone."""
        self._check()
        received = 0
        while received < RECEIVE_MOST or self._is_tls:
            space = self.reader.space(RECEIVE_BYTES)
            try:
                n = self._sock.recv_into(space)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                raise self._gone(error) from error
            if n == 0:
                raise self._gone("the server closed the connection")
            self.reader.fed(n)
            received += n
            # A TLS socket may hold decrypted bytes that epoll knows nothing of: read until it says there are none.
            if n < len(space) and not self._is_tls:
                return

    def _gone(self, reason: object) -> BrokerUnavailable:
        return BrokerUnavailable(f"lost the connection to {self._connection.address.masked()}: {reason}")

    def close(self) -> None:
        """Close it; may be called twice."""
        with contextlib.suppress(OSError):
            self._connection.close()


def _tune(sock: socket.socket) -> None:
    # Half-open connections are found by the heartbeat; these find them too, and for the connections that only wait.
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 15),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", SILENCE_MS),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
