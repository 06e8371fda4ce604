"""A connection that is gone is noticed in one place: where the loop reads, never where something is sent."""

from __future__ import annotations

import select
import socket
import struct
from types import SimpleNamespace
from typing import Any

import pytest

from fastq.errors import BrokerUnavailable
from fastq.transport.redis.stream import Stream
from fastq.transport.urls import Address


def _connected() -> tuple[Stream, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    connection: Any = SimpleNamespace(sock=ours, address=Address(kind="tcp", host="127.0.0.1"), close=ours.close)
    return Stream(connection), theirs


def _reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def test_sending_on_a_connection_that_was_reset_is_told_to_the_loop() -> None:
    stream, peer = _connected()
    _reset(peer)
    for _ in range(3):  # the first finds it out
        stream.send(b"PING\r\n")
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLIN)
    assert poll.poll(1000), "the loop is woken"
    with pytest.raises(BrokerUnavailable, match="lost the connection to redis"):
        stream.receive()
    with pytest.raises(BrokerUnavailable):
        stream.write()
    stream.close()


def test_what_the_kernel_does_not_take_is_kept_until_the_socket_is_writable() -> None:
    stream, peer = _connected()
    data = b"x" * (8 << 20)
    stream.send(data)
    assert stream.wants_to_write
    received = 0
    while received < len(data):
        received += len(peer.recv(1 << 20))
        stream.write()
    assert not stream._unsent
    assert received == len(data)
    peer.close()
    stream.close()
