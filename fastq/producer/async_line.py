"""The connection of a program with an event loop: one for all coroutines, whose questions follow each other on it.

Nobody waits for a turn: each writes at once and gets its answer when it comes, so that a hundred sends at the same
time cost one round trip. When the connection is lost, everyone who waits for an answer is told.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import hiredis

from fastq.errors import BrokerError
from fastq.producer.post import Lost, Post
from fastq.transport.connect import Endpoint, refusal
from fastq.transport.connect_async import open_streams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastq.producer.compose import Push
    from fastq.producer.options import Replicas

#: Seconds between two looks at how long the oldest question has been waiting.
LOOK_EVERY_S = 0.5


class _Question:
    """What somebody waits for on a line."""

    __slots__ = ("count", "deadline", "future", "replies")

    def __init__(self, count: int, *, deadline: float, future: asyncio.Future[list[Any]]) -> None:
        self.count = count
        self.deadline = deadline
        self.future = future
        self.replies: list[Any] = []


class AsyncLine(asyncio.Protocol):
    """One connection. Coroutines of one event loop share it. A listener takes what nobody asked for."""

    def __init__(
        self, writer: asyncio.StreamWriter, *, timeout_s: float, listener: Callable[[Any], None] | None = None
    ) -> None:
        self._writer = writer  # kept: a writer that is collected closes its transport
        self._transport = writer.transport
        self._timeout_s = timeout_s
        self._listener = listener
        self._reader = hiredis.Reader()
        self._questions: deque[_Question] = deque()
        self._unwritten: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self.lost: Exception | None = None
        self._transport.set_protocol(self)
        self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)

    def ask(self, request: bytes, count: int, *, patience_s: float = 0.0) -> asyncio.Future[list[Any]]:
        """Write commands and return what their replies will be in. It fails with Lost."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if self.lost is not None or self._transport.is_closing():
            future.set_exception(Lost(self.lost or "closed", written=False))
            return future
        deadline = self._loop.time() + self._timeout_s + patience_s
        self._questions.append(_Question(count, deadline=deadline, future=future))
        self.tell(request)
        return future

    def tell(self, request: bytes) -> None:
        """Write commands at the end of this turn of the event loop: those of one turn go out together."""
        if not self._unwritten:
            self._loop.call_soon(self._write)
        self._unwritten.append(request)

    def _write(self) -> None:
        requests, self._unwritten = self._unwritten, []
        if self.lost is None:
            self._transport.write(b"".join(requests))

    @property
    def usable(self) -> bool:
        """Tell whether it is still open."""
        return self.lost is None and not self._transport.is_closing()

    # What the event loop calls

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._take(reply)
        except hiredis.ProtocolError as error:
            self._fail(error)

    def _take(self, reply: Any) -> None:
        if self._listener is not None:
            return self._listener(reply)
        question = self._questions[0]
        question.replies.append(reply)
        if len(question.replies) == question.count:
            self._questions.popleft()
            if not question.future.done():  # its coroutine may have been cancelled
                question.future.set_result(question.replies)
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionResetError("closed by the server"))

    def eof_received(self) -> bool:
        return False

    def _look(self) -> None:
        if self._questions and self._questions[0].deadline < self._loop.time():
            self._fail(TimeoutError("no answer in time"))
        elif self.lost is None:
            self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)

    def _fail(self, error: Exception) -> None:
        if self.lost is not None:
            return
        self.lost = error
        self._timer.cancel()
        self._transport.abort()
        questions, self._questions = self._questions, deque()
        for question in questions:
            if not question.future.done():
                question.future.set_exception(Lost(_reason(error), replies=question.replies))
        if self._listener is not None:
            self._listener(None)

    def close(self) -> None:
        """Close it; may be called twice. Who waits for an answer is told."""
        if self.lost is None:
            self._fail(ConnectionResetError("closed by this program"))


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


T = TypeVar("T")


class PerLoop(Generic[T]):
    """One thing for each event loop that asks: loops of several threads, or one after the other. A fork starts anew."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._pid = os.getpid()
        self._found: dict[asyncio.AbstractEventLoop, T] = {}

    def here(self) -> T:
        """That of the running loop."""
        if self._pid != os.getpid():
            # What the parent of a fork has is its own: not even closing it is ours to do.
            self._pid, self._found = os.getpid(), {}
        loop = asyncio.get_running_loop()
        found = self._found.get(loop)
        if found is None:
            self._forget_closed()
            found = self._found[loop] = self._make()
        return found

    def _forget_closed(self) -> None:
        for loop in list(self._found):
            if loop.is_closed():
                self._found.pop(loop, None)


class _Place:
    """What one event loop has of a server."""

    line: AsyncLine | None = None
    opening: asyncio.Task[AsyncLine] | None = None


class AsyncLines:
    """Lines to one server, one for each event loop: made on first use, and anew after a loss."""

    def __init__(self, endpoint: Endpoint, *, timeout_s: float, listener: Callable[[Any], None] | None = None) -> None:
        self._endpoint = endpoint
        #: The server as messages name it, without password.
        self.where: str = f"the {endpoint.role.name} {endpoint.masked()}"
        self._timeout_s = timeout_s
        self._listener = listener
        self._places: PerLoop[_Place] = PerLoop(_Place)

    async def line(self) -> AsyncLine:
        """Return the line of this loop. Raises BrokerUnavailable or BrokerRefused; nothing was written then."""
        place = self._places.here()
        if place.line is not None and place.line.usable:
            return place.line
        if place.opening is None:
            place.opening = asyncio.ensure_future(self._open(place))
        # Shielded: one of many who wait for it being cancelled must not take it from the others.
        return await asyncio.shield(place.opening)

    async def _open(self, place: _Place) -> AsyncLine:
        try:
            writer = await open_streams(self._endpoint, timeout_s=self._timeout_s)
            place.line = AsyncLine(writer, timeout_s=self._timeout_s, listener=self._listener)
            return place.line
        finally:
            place.opening = None

    async def ask(self, request: bytes, count: int = 1) -> list[Any]:
        """Write commands that only read, and return the replies; once more on a new line if the first was lost."""
        try:
            return await (await self.line()).ask(request, count)
        except Lost:
            return await (await self.line()).ask(request, count)

    async def deliver(self, post: Post) -> None:
        """Drive a post until it is over. Raises nothing of the broker's: the post knows what came of it."""
        while not post.over:
            if post.pause_s:
                await asyncio.sleep(post.pause_s)
            await self._attempt(post)

    async def _attempt(self, post: Post) -> None:
        try:
            line = await self.line()
        except BrokerError as error:
            return post.failed(error)
        request, count = post.request()
        try:
            replies = await line.ask(request, count, patience_s=post.patience_s)
        except Lost as lost:
            return post.lost(lost, self.explain)
        if not post.answered(replies, self.explain):
            line.close()
        return None

    def explain(self, answer: str) -> BrokerError:
        """Tell a server's error as one of ours."""
        return refusal(answer, address=self._endpoint.address, role=self._endpoint.role)

    def post(self, pushes: Sequence[Push], *, retries: int, confirm: Replicas | None = None) -> Post:
        """Return a post of these pushes to this server, which nobody has tried yet."""
        return Post(pushes, retries=retries, confirm=confirm, where=self.where)

    async def close(self) -> None:
        """Close the line of this loop; those who wait for answers are told."""
        place = self._places.here()
        if place.opening is not None:
            await asyncio.gather(place.opening, return_exceptions=True)
        line, place.line = place.line, None
        if line is not None:
            line.close()
            await asyncio.sleep(0)  # the loop closes the socket in its next turn, which may be its last
