"""The load of `fastq bench`: keep a bounded backlog on the queue, hear every result, and remove it again.

Results are announced on channels of the bench's own prefix, so one pattern hears all of them and nothing else. A task
that stores none is counted by what is gone from the queue and from the worker's claims.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import hiredis
import msgspec

from fastq import clock
from fastq.cli.bench_place import LEFT_S, QUEUE, client, literal
from fastq.errors import SurroundingsError
from fastq.producer.ids import uuids
from fastq.producer.message import Stencil
from fastq.producer.options import Options
from fastq.producer.outcome import FINAL
from fastq.producer.store import RESULT_KEY
from fastq.transport.redis.commands import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from fastq.cli.bench_place import Place
    from fastq.transport.connect import OpenConnection

#: Messages of one LPUSH, and under way at the beginning.
CHUNK = 200

#: Messages under way at most: a worker claims some thousand at a time, and must always find more.
BACKLOG = 20_000

#: Bytes of results under way at most. A server drops listeners that have 8 MB unread for a minute, or 32 at once.
UNREAD = 4 * 1024 * 1024

#: Seconds without any result after which the bench gives up. The task itself may take long.
STALL_S = 60.0

#: Seconds between two looks, at most.
NAP_S = 0.01

#: Ids of no message.
_MARKS = uuids(2)

_FINAL = {status.encode(): status for status in FINAL}

#: The status comes first in a stored result, whatever its serializer: within so many bytes.
_HEAD = 64


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What every message asks for."""

    task: str
    args: list[Any]
    kwargs: dict[str, Any]


def _message(work: Work) -> str:
    """A message as a client writes it, with marks where its two ids belong: all are the same but for them."""
    now = clock.utc_now()
    stencil = Stencil(work.task, options=Options(), queue=QUEUE, priority=0, reply_to=uuids(1)[0], now=now)
    return stencil.fill([(work.args, work.kwargs)], _MARKS)[0]


class Load:
    """Messages out, results in. When to send, and for how long, is up to the caller."""

    def __init__(self, place: Place, work: Work, *, answered: bool) -> None:
        self._place, self._message = place, _message(work)
        self._broker: redis.Redis = client(place.broker)
        self._results: redis.Redis = client(place.results) if answered else self._broker
        self._hearing: OpenConnection | None = place.results.open() if answered else None
        self._reader = hiredis.Reader()
        self._channel = f"{place.result_prefix}{RESULT_KEY}".encode()
        #: Ids that wait for their result.
        self._open: set[bytes] = set()
        self.sent: int = 0
        self.failed: int = 0
        #: The largest result so far, in bytes.
        self.largest: int = 0
        if self._hearing is not None:
            self._hearing.sock.sendall(pack("PSUBSCRIBE", f"{literal(place.result_prefix)}{RESULT_KEY}*"))

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._broker.close()
        self._results.close()
        if self._hearing is not None:
            self._hearing.close()

    def under_way(self) -> int:
        """Messages that were sent and are not done."""
        return len(self._open) if self._hearing is not None else self._waiting() + self._held()

    def limit(self, rate: float) -> int:
        """How many may be under way, at so many a second: half a second's work, and less if results are large."""
        most = min(BACKLOG, max(CHUNK, int(rate / 2)))
        return min(most, max(10, UNREAD // self.largest)) if self.largest else most

    def send(self, count: int) -> None:
        """Put so many messages on the queue."""
        ids = uuids(2 * count)
        text, tag = self._message.replace, _MARKS[1]
        messages = [text(_MARKS[0], ids[at]).replace(tag, ids[at + 1]) for at in range(0, 2 * count, 2)]
        with self._broker.pipeline(transaction=False) as pipe:
            pipe.lpush(self._place.queue_key, *messages)
            pipe.expire(self._place.queue_key, LEFT_S)
            pipe.execute()
        self.sent += count
        if self._hearing is not None:
            self._open.update(each.encode() for each in ids[::2])

    def hear(self, timeout_s: float) -> None:
        """Take in the results that are there, or the next ones. Blocks up to `timeout_s`."""
        if self._hearing is None:
            clock.sleep(min(timeout_s, NAP_S))
            return
        self._hearing.sock.settimeout(max(timeout_s, 1e-3))
        with contextlib.suppress(TimeoutError):
            data = self._hearing.sock.recv(1 << 18)
            if not data:
                raise SurroundingsError("the result store closed the connection on which results are announced")
            self._reader.feed(data)
        if done := list(self._done()):
            self._results.unlink(*(self._channel + each for each in done))

    def _done(self) -> Iterator[bytes]:
        """Ids of the results that have come."""
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, hiredis.HiredisError):
                raise SurroundingsError(f"the result store does not let us hear of results: {reply}")
            if reply[0] == b"pmessage" and (status := status_of(reply[3])):
                identity = reply[2][len(self._channel) :]
                if identity in self._open:
                    self._open.discard(identity)
                    self.failed += status != "SUCCESS"
                    self.largest = max(self.largest, len(reply[3]))
                    yield identity

    def until(self, few: int, *, check: Callable[[], None]) -> None:
        """Wait until no more than `few` messages are under way. Raises SurroundingsError when nothing moves."""
        seen, moved = -1, clock.monotonic()
        while (now := self.under_way()) > few:
            if now != seen:
                seen, moved = now, clock.monotonic()
            if clock.monotonic() - moved > STALL_S:
                raise SurroundingsError(f"{now} messages are not done, and none was in {STALL_S:g} s")
            check()
            self.hear(NAP_S)

    def drop(self, *, check: Callable[[], None]) -> None:
        """Take back what no worker has claimed, and wait for the rest."""
        self._broker.unlink(self._place.queue_key)
        seen, moved = -1, clock.monotonic()
        while (now := self._held()) and clock.monotonic() - moved < STALL_S:
            moved = moved if now == seen else clock.monotonic()
            seen = now
            check()
            self.hear(NAP_S)
        self.hear(NAP_S)
        self._open.clear()

    def _waiting(self) -> int:
        found: Any = self._broker.llen(self._place.queue_key)
        return int(found)

    def _held(self) -> int:
        """What a worker has claimed and not acknowledged."""
        server, keys = self._broker, self._place.keys
        held: Any = server.hlen(keys.unacked)
        workers: Any = server.hkeys(keys.workers)
        for worker in (name.decode() for name in workers):
            numbers: Any = server.smembers(keys.claims(QUEUE, worker))
            lengths: Any = [server.llen(keys.claim(QUEUE, worker, number=int(number))) for number in numbers]
            held += sum(lengths)
        return int(held)

    def redis_cpu_s(self) -> float:
        """CPU seconds of the broker so far, whoever used them; NaN if this user may not ask."""
        import redis

        try:
            found: Any = self._broker.info("cpu")
        except redis.ResponseError:
            return float("nan")
        return float(found["used_cpu_sys"]) + float(found["used_cpu_user"])


def status_of(stored: bytes) -> str | None:
    """The final status in a stored result, or None: it is another state, and more will come."""
    head = stored[:_HEAD]
    if head.startswith(b'{"status"'):
        head = head.partition(b",")[0]
    return next((text for word, text in _FINAL.items() if word in head), None)
