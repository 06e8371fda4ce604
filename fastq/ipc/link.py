"""A stream socket that carries messages: four bytes of length, little-endian, then MessagePack."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec

from fastq.errors import ProcessLost, RingBroken

M = TypeVar("M")

_LENGTH = struct.Struct("<I")

#: Bytes of one message; an application with thousands of tasks needs a few hundred thousand.
LIMIT_BYTES = 256 * 1024 * 1024

_RECEIVE_BYTES = 65536


class Link(Generic[M]):
    """One end of the link. `incoming` is the union of the messages that may arrive.

    Raises ProcessLost when the other end is gone. The socket may be blocking (the nursery's) or not (the engine's).
    """

    def __init__(self, sock: socket.socket, *, incoming: Any) -> None:
        self.sock = sock
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(incoming)
        self._encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode
        self._read = bytearray()
        self._unsent = bytearray()
        self._fds: list[int] = []

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()

    @property
    def wants_to_write(self) -> bool:
        """True while a non-blocking socket has not taken everything: call `flush` when it is writable."""
        return bool(self._unsent)

    def send(self, message: msgspec.Struct) -> None:
        """Send one message; blocks on a blocking socket, keeps the rest for `flush` on another."""
        data = self._encode(message)
        self._unsent += _LENGTH.pack(len(data)) + data
        self.flush()

    def send_with(self, message: msgspec.Struct, *, fd: int) -> None:
        """Send a message and a descriptor, which stays the caller's; on a blocking socket."""
        data = self._encode(message)
        try:
            socket.send_fds(self.sock, [_LENGTH.pack(len(data)) + data], [fd])
        except OSError as error:
            raise ProcessLost(f"the process at the other end of the link is gone: {error}") from error

    def take_fd(self) -> int:
        """The descriptor that came with a message. Descriptors come in the order of their messages; it is the
        caller's to close."""
        fd = self._fds.pop(0)
        os.set_inheritable(fd, False)
        return fd

    def flush(self) -> None:
        """Write what is left to be written."""
        while self._unsent:
            try:
                written = self.sock.send(self._unsent)
            except BlockingIOError:
                return
            except OSError as error:
                raise ProcessLost(f"the process at the other end of the link is gone: {error}") from error
            del self._unsent[:written]

    def receive(self) -> list[M]:
        """Read what is there (waits for something on a blocking socket) and return the complete messages."""
        try:
            data, fds, _flags, _address = socket.recv_fds(self.sock, _RECEIVE_BYTES, 4)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as error:
            raise ProcessLost(f"the process at the other end of the link is gone: {error}") from error
        if not data:
            raise ProcessLost("the process at the other end of the link has closed it")
        self._read += data
        self._fds += fds
        return list(self._complete())

    def _complete(self) -> Iterator[M]:
        while len(self._read) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._read)
            if length > LIMIT_BYTES:
                raise RingBroken(f"a message of {length} bytes on the link; the limit is {LIMIT_BYTES}")
            end = _LENGTH.size + length
            if len(self._read) < end:
                return
            message = self._decoder.decode(bytes(self._read[_LENGTH.size : end]))
            del self._read[:end]
            yield message


def _plain(value: object) -> object:
    # Settings of an application may hold anything; what MessagePack has no word for is told as text.
    return str(value)
