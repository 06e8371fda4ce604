"""A TCP proxy before Redis that delays, cuts, refuses and swallows."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from tests.fix_redis import RedisServer, free_port

T = TypeVar("T")

CHUNK_BYTES = 1 << 16


class Proxy:
    """Forward connections to a port of this machine; all methods may be called from the test's thread."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = free_port()
        self.delay_s = 0.0
        #: Reset whoever connects: like `refuse`, but it may change from one moment to the next.
        self.turns_away = False
        self.connections = 0
        self._cut_at = b""
        self._cuts = 0
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._call(self._flowing.set)
        self.accept()

    def stop(self) -> None:
        """Cut everything and end the thread."""
        if not self._thread.is_alive():
            return
        self.refuse()
        self.cut()
        self._await(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _end_tasks(self) -> None:
        await asyncio.sleep(0.01)  # who has just been let in gets a task, so that it can be ended
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def url(self, *, number: int = 0) -> str:
        """The redis:// URL through the proxy."""
        return f"redis://127.0.0.1:{self.port}/{number}"

    def delay(self, *, one_way_ms: float) -> None:
        """Let every byte take this much longer in each direction; throughput is not limited."""
        self.delay_s = one_way_ms / 1000

    def accept(self) -> None:
        """Take connections (again)."""
        if self._listener is None:
            self._listener = self._await(asyncio.start_server(self._serve, "127.0.0.1", self.port))

    def refuse(self) -> None:
        """Take no new connections."""
        listener, self._listener = self._listener, None
        if listener is not None:
            self._call(listener.close)

    def cut(self) -> None:
        """Reset all connections that are open now."""
        self._call(self._reset_all)

    def cut_answer_to(self, word: bytes, *, times: int = 1) -> None:
        """Let the next requests with this word through, and reset the connection in place of each answer."""
        self._cut_at, self._cuts = word, times

    def blackhole(self) -> None:
        """Keep connections open and let nothing through."""
        self._call(self._flowing.clear)

    def heal(self) -> None:
        """Let bytes through again."""
        self._call(self._flowing.set)

    def _reset_all(self) -> None:
        for writer in list(self._open):
            self._reset(writer)

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("socket")
        if peer is not None and peer.fileno() >= 0:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    def _call(self, function: Callable[[], object]) -> None:
        async def run() -> None:
            function()

        self._await(run())

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.turns_away:
            return self._reset(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        self._open |= {writer, far_writer}
        self.connections += 1  # from now on a cut reaches it
        doomed: list[asyncio.StreamWriter] = []
        ways = (
            self._forward(self._watched(reader, doomed, writer), far_writer),
            self._forward(self._until(far_reader, doomed), writer),
        )
        try:
            await asyncio.gather(*ways)
        finally:
            self._open -= {writer, far_writer}
            writer.close()
            far_writer.close()

    async def _watched(
        self, reader: asyncio.StreamReader, doomed: list[asyncio.StreamWriter], client: asyncio.StreamWriter
    ) -> AsyncIterator[bytes]:
        """What a client sends; a connection whose answer has to be cut is noted."""
        while data := await reader.read(CHUNK_BYTES):
            if self._cuts and self._cut_at in data:
                self._cuts -= 1
                doomed.append(client)
            yield data

    async def _until(self, reader: asyncio.StreamReader, doomed: list[asyncio.StreamWriter]) -> AsyncIterator[bytes]:
        """What the server answers, until the answer that must not arrive."""
        while data := await reader.read(CHUNK_BYTES):
            if doomed:
                self._reset(doomed[0])
                return
            yield data

    async def _forward(self, reader: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = asyncio.ensure_future(self._send(waiting, writer))
        try:
            async for data in reader:
                waiting.put_nowait((self._loop.time() + self.delay_s, data))
        except OSError:
            writer.transport.abort()
        waiting.put_nowait((self._loop.time() + self.delay_s, b""))
        await sending

    async def _send(self, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await waiting.get()
            if (left_s := due - self._loop.time()) > 0:
                await asyncio.sleep(left_s)
            await self._flowing.wait()
            if not data:
                writer.close()
                return
            writer.write(data)


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    """A proxy before the server of the session."""
    before = Proxy(redis_server.port)
    before.start()
    yield before
    before.stop()
