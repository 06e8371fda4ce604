"""Tell the broker and the result store what has been settled: one flush at a time, as large as it has become meanwhile.

A flush is one transaction: results, then acknowledgements, then the flush's own number. After a connection was lost,
that number says whether the flush had been applied; if not it is sent again as it was. So a result is stored, and a
message requeued, exactly once.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from fastq import _core, clock
from fastq.transport.redis import commands
from fastq.transport.redis.stream import Stream
from fastq.worker.poll import Timers

logger: logging.Logger = logging.getLogger(__name__)

#: Seconds that a settled message of an unfinished batch may wait for the rest of its batch before it is told by itself.
#: The whole batch costs 0.2 µs a message, a single one 1 µs. After a crash, whoever restores from another host can
#: repeat early acknowledged tasks that were started within this time.
LINGER_S = 0.010

#: Seconds a flush that was refused (out of memory, read-only) waits for its next try.
RETRY_S = 1.0

#: Seconds without an answer after which the server is taken for dead.
DEADLINE_S = 10.0


def log_refusals(errors: list[bytes]) -> None:
    """For `Settler.ask`: what the server has refused is an error, and no more than that."""
    for error in errors:
        logger.error("Redis: %s", error.decode("utf-8", "replace"))


class _Sent:
    """Replies that are to come: of a flush, or of a command beside."""

    def __init__(self, replies: int, *, done: Callable[[list[bytes]], None]) -> None:
        self.left = replies
        self.done = done


class Settler:
    """The broker's side: acknowledgements, and results if they go to the same place."""

    def __init__(self, ledger: _core.Ledger, *, stamp_key: str, timers: Timers) -> None:
        self._ledger, self._timers = ledger, timers
        self._stamp_key = stamp_key
        self._number = 0
        self._flying: tuple[bytes, int] | None = None
        self._expected: deque[_Sent] = deque()
        self._waits_since: float | None = None
        self._sent_at_ns = 0
        self.stream: Stream | None = None

    @property
    def flying(self) -> bool:
        """Whether a flush is on its way."""
        return self._flying is not None

    @property
    def clean(self) -> bool:
        """Whether the broker knows everything."""
        return not self.flying and not self._ledger.untold

    def pump(self) -> None:
        """Send a flush if there is something to tell and none is on its way."""
        if self.stream is None or self.flying:
            return
        ledger = self._ledger
        if ledger.urgent or ledger.untold:
            self._flush()

    def _flush(self) -> None:
        stamp = commands.pack("SET", self._stamp_key, self._number + 1, "EX", 86400)
        # Large messages: a ring has room for few of them, and is not to wait for the rest of a batch.
        linger_s = 0.0 if self._ledger.cramped else LINGER_S
        flush = self._ledger.flush(stamp, int(linger_s * 1e9))
        if flush is not None:
            self._number += 1
            self._flying = flush
            self._send_flush()
        elif self._ledger.untold:
            self._timers.sooner("linger", LINGER_S / 2, self.pump)

    def _send_flush(self) -> None:
        if self._flying is None or self.stream is None:
            return
        data, replies = self._flying
        self._sent_at_ns = clock.monotonic_ns()
        self.ask(data, replies + 1, self._flushed)

    def ask(self, data: bytes, replies: int, done: Callable[[list[bytes]], None]) -> None:
        """Send commands; `done(errors)` when all their replies are there."""
        assert self.stream is not None
        self._expected.append(_Sent(replies, done=done))
        if self._waits_since is None:
            self._waits_since = clock.monotonic()
        self.stream.send(data)

    def ready(self, _stream: Stream) -> None:
        """Something has arrived."""
        assert self.stream is not None
        self.stream.receive()
        reader = self.stream.reader
        while self._expected:
            sent = self._expected[0]
            sent.left = reader.skip_replies(sent.left)
            if sent.left:
                return
            self._expected.popleft()
            self._waits_since = clock.monotonic() if self._expected else None
            sent.done(reader.take_errors())

    @property
    def silent_s(self) -> float:
        """Seconds that the server has left a command without an answer."""
        return 0.0 if self._waits_since is None else clock.monotonic() - self._waits_since

    def _flushed(self, errors: list[bytes]) -> None:
        refused = any(b"EXECABORT" in error for error in errors)
        if refused:
            self._refused(errors)
            return
        if self._flying is not None:
            self._ledger.note_flush(clock.monotonic_ns() - self._sent_at_ns, len(self._flying[0]))
        self._flying = None
        self._ledger.confirm()
        if errors:
            self._complain(errors)

    def _refused(self, errors: list[bytes]) -> None:
        reason = errors[0].decode("utf-8", "replace")
        logger.error(
            "Redis refused to store results and acknowledgements: %s. Nothing is lost; trying again in %g s.",
            reason,
            RETRY_S,
        )
        self._timers.set("reflush", RETRY_S, self._send_flush)

    def _complain(self, errors: list[bytes]) -> None:
        gone = [e for e in errors if b"no such key" in e]
        if gone:
            logger.warning("%d claims were gone from Redis when they were acknowledged.", len(gone))
        for error in [e for e in errors if e not in gone][:3]:
            logger.error("Redis refused a command of a flush: %s", error.decode("utf-8", "replace"))

    def up(self, stream: Stream, *, applied: int) -> None:
        """Connected: `applied` is the number of the last flush that the broker has applied."""
        self.stream = stream
        if self._flying is None:
            return
        if applied >= self._number:
            self._flushed([])
        else:
            self._send_flush()

    def lost(self) -> None:
        self.stream = None
        self._waits_since = None
        self._expected.clear()
        self._timers.cancel("reflush")


class ResultStore:
    """The result store's side, where that is another server: late acknowledgements wait for it."""

    def __init__(self, ledger: _core.Ledger, *, timers: Timers) -> None:
        self._ledger, self._timers = ledger, timers
        self._flying: list[tuple[bytes, int]] | None = None
        self._left = 0
        self.stream: Stream | None = None
        ledger.separate_results = True

    @property
    def clean(self) -> bool:
        return self._flying is None and not self._ledger.result_backlog

    @property
    def flying(self) -> bool:
        return self._flying is not None

    def pump(self) -> None:
        if self.stream is None or self._flying is not None:
            return
        self._flying = self._ledger.flush_results()
        self._send()

    def _send(self) -> None:
        if self._flying is not None and self.stream is not None:
            # In transactions, so that a result is never stored without being announced.
            self._left = sum(replies + 2 for _, replies in self._flying)
            for data, _ in self._flying:
                self.stream.send(commands.MULTI + data + commands.EXEC)

    def ready(self, _stream: Stream) -> None:
        assert self.stream is not None
        self.stream.receive()
        reader = self.stream.reader
        if self._flying is None:
            return
        self._left = reader.skip_replies(self._left)
        if self._left:
            return
        errors = reader.take_errors()
        if any(b"EXECABORT" in error for error in errors):
            reason = errors[0].decode("utf-8", "replace")
            logger.error(
                "The result store refused results: %s. Nothing is lost; trying again in %g s.", reason, RETRY_S
            )
            self._timers.set("restore", RETRY_S, self._send)
            return
        for error in errors[:3]:
            logger.error("The result store refused a command: %s", error.decode("utf-8", "replace"))
        self._flying = None
        self._ledger.confirm_results()

    def up(self, stream: Stream) -> None:
        self.stream = stream
        self._send()

    def lost(self) -> None:
        self.stream = None
        self._timers.cancel("restore")
