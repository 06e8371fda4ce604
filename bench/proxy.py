"""Put a distance between a worker and Redis: a TCP proxy that holds every byte back for half a round trip.

It runs in a process of its own and copies what passes, so it needs CPU; on two cores that is taken from the engines.
With 2 ms asked for, a PING takes 2.3 ms (median; 2.6 at the 98th percentile): the rest is the proxy's and the kernel's.
"""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

from bench.processes import ROOT
from fastq.background import die_with_parent

#: Bytes per read.
READ_BYTES = 256 * 1024

#: Bytes on their way in one direction before the proxy reads no more: a long thin cable, not an endless one.
IN_FLIGHT_BYTES = 8 * 1024 * 1024


class Half:
    """One direction of one connection: what was read and when it may arrive."""

    __slots__ = ("_due", "_late", "_ready", "ended", "sink", "size", "source")

    def __init__(self, source: socket.socket, sink: socket.socket, *, delay_s: float) -> None:
        self.source, self.sink = source, sink
        self.ended = False
        self.size = 0
        self._late = delay_s
        self._due: deque[tuple[float, bytes]] = deque()
        self._ready = b""

    def read(self) -> None:
        """Take what has come; at the end of the stream, remember it."""
        try:
            data = self.source.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.ended = not data
        self.size += len(data)
        self._due.append((time.monotonic() + self._late, data))

    def write(self) -> bool:
        """Pass on what is due. False when the other side, or this one, has gone."""
        while self._ready or (self._due and self._due[0][0] <= time.monotonic()):
            if not self._ready:
                self._ready = self._due.popleft()[1]
                if not self._ready:
                    return False
            try:
                sent = self.sink.send(self._ready)
            except BlockingIOError:
                return True
            except OSError:
                return False
            self._ready = self._ready[sent:]
            self.size -= sent
        return True

    @property
    def wants_read(self) -> bool:
        return not self.ended and self.size < IN_FLIGHT_BYTES

    @property
    def blocked(self) -> bool:
        return bool(self._ready)

    def wait_s(self, now: float) -> float:
        """Seconds until something is due."""
        return max(0.0, self._due[0][0] - now) if self._due and not self._ready else 3600.0


def serve(listener: socket.socket, target: tuple[str, int], *, delay_s: float) -> None:
    """Pass bytes to and fro until killed."""
    halves: list[Half] = []
    while True:
        now = time.monotonic()
        readers: list[socket.socket] = [listener, *(half.source for half in halves if half.wants_read)]
        writers = [half.sink for half in halves if half.blocked]
        # select, not epoll: its timeout is in microseconds, and there are only a handful of connections.
        timeout_s = min((half.wait_s(now) for half in halves), default=3600.0)
        ready = set(select.select(readers, writers, [], timeout_s)[0])
        if listener in ready:
            halves += _connect(listener.accept()[0], target, delay_s=delay_s)
        for half in halves:
            if half.source in ready:
                half.read()
        gone = {connection for half in halves if not half.write() for connection in (half.source, half.sink)}
        halves = [half for half in halves if half.source not in gone]
        for connection in gone:
            connection.close()


def _connect(client: socket.socket, target: tuple[str, int], *, delay_s: float) -> list[Half]:
    server = socket.create_connection(target)
    for end in (client, server):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setblocking(False)
    return [Half(client, server, delay_s=delay_s), Half(server, client, delay_s=delay_s)]


@contextlib.contextmanager
def delayed(url: str, *, rtt_ms: float) -> Iterator[str]:
    """The address under which the server of `url` seems to be `rtt_ms` away."""
    parts = urlsplit(url)
    command = [sys.executable, "-m", "bench.proxy", str(parts.hostname), str(parts.port), str(rtt_ms / 2000)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True, preexec_fn=die_with_parent
    )
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        yield urlunsplit(parts._replace(netloc=f"127.0.0.1:{port}"))
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def main() -> None:
    """Serve on a free port, which is printed."""
    host, port, delay_s = sys.argv[1:]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        serve(listener, (host, int(port)), delay_s=float(delay_s))


if __name__ == "__main__":
    main()
