"""Collect messages and send them together, in the background, with bounds on time and memory.

A message is in the buffer until Redis has answered for it. What an attempt did not get through stays, in its order,
and is tried again with growing pauses; when the bounds are reached, the next sends wait or are refused. Nothing is
thrown away, but at the end of the program or of the producer, and then it is said which messages those were.

The sending itself is done under one lock, by the buffer's thread or by whoever flushes, so that the order is kept.

A signal handler may raise anywhere in the thread that sends or flushes (SystemExit, KeyboardInterrupt, a time limit).
So the locks are plain ones, whose `with` cannot be entered or left by half, a message is in exactly one place at each
instant, and what is counted is counted anew from zero whenever nothing is left.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import weakref
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from fastq import clock
from fastq.errors import BrokerError, BufferFull
from fastq.producer.compose import Push

if TYPE_CHECKING:
    from fastq.producer.line import Lines
    from fastq.producer.options import Buffering
    from fastq.producer.post import Post

logger: logging.Logger = logging.getLogger("fastq.producer")

#: Messages of one attempt, and of one LPUSH in it.
ATTEMPT, CHUNK = 5000, 500

#: Seconds between attempts while Redis is away: from, to.
PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0

#: Seconds after which a thread with nothing to do ends; the next message starts another.
IDLE_S = 10.0

#: Ids in one line of the log.
IDS_A_LINE = 100

_buffers: weakref.WeakSet[Buffer] = weakref.WeakSet()
_ended = False


def program_ends() -> bool:
    """Tell whether the buffers have been emptied for the last time: what is sent from now on is sent at once."""
    return _ended


class Buffer:
    """The messages of one producer in one process."""

    def __init__(self, lines: Lines, limits: Buffering) -> None:
        self._lines = lines
        self._limits = limits
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._sending = threading.Lock()
        self._waiting: deque[Push] = deque()
        self._post: Post | None = None
        self._count = 0
        self._bytes = 0
        self._post_bytes = 0
        self._since = 0.0
        self._thread: threading.Thread | None = None
        self._error: BrokerError | None = None
        self._closing = False
        self._is_full = False
        self._finalizer: weakref.finalize[..., object] | None = None
        _buffers.add(self)

    @property
    def is_ours(self) -> bool:
        """Tell whether this process made it. A forked child has only a picture of its parent's."""
        return self._pid == os.getpid()

    # Taking messages

    def add(self, composed: Push) -> bool:
        """Take messages; false if this buffer is being closed. Blocks, or raises BufferFull, if there is no room."""
        size = sum(map(len, composed.messages))
        with self._lock:
            if not self._fits(composed, size):
                self._wait_for_room(composed, size)
            if self._closing:
                return False
            if not self._waiting or self._thread is None:
                self._since = clock.monotonic()
                self._wake()
            self._count += len(composed.ids)
            self._bytes += size
            alone = self._thread is None
            self._waiting.append(composed)  # the last step: before it nothing was taken
        if alone:
            self._attempt()
        return True

    def _fits(self, composed: Push, size: int) -> bool:
        limits = self._limits
        if not self._count:
            return True  # one push that is greater than the bounds must be possible
        return self._count + len(composed.ids) <= limits.max_messages and self._bytes + size <= limits.max_bytes

    def _wait_for_room(self, composed: Push, size: int) -> None:
        self._is_full = True  # nothing more can come together: what there is goes now, whatever its delay
        block_s = self._limits.block_s if self._limits.when_full == "block" else 0.0
        self._wake()
        if block_s and self._changed.wait_for(lambda: self._closing or self._fits(composed, size), block_s):
            return
        reason = f"; the last attempt to send failed: {self._error.message}" if self._error is not None else ""
        raise BufferFull(
            f"{self._count} messages ({self._bytes} bytes) wait to be sent, {len(composed.ids)} more were not taken: "
            f"send them again later, or give buffer= more room{reason}",
            unsent_ids=tuple(composed.ids),
        ) from self._error

    def _wake(self) -> None:
        """See that a thread works, if the system lets us have one. The lock is held."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="fastq-producer", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return  # too many of them, or the interpreter ends: whoever adds something sends it
            self._thread = thread
        self._changed.notify_all()

    # The thread

    def _run(self) -> None:
        pause_s = PAUSE_S
        while self._rest():
            if self._works():
                pause_s = PAUSE_S
            else:
                self._pause(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _works(self) -> bool:
        """Attempt it; what goes wrong beside the broker (settings, a callback that raises) must not end the thread."""
        try:
            return self._attempt()
        except Exception:
            logger.exception("messages wait in the buffer, and are tried again")
            return False

    def _rest(self) -> bool:
        """Wait until messages have waited long enough, or are many; false when there has been nothing to do."""
        with self._lock:
            if not self._changed.wait_for(lambda: self._count or self._closing, IDLE_S) or self._closing:
                self._thread = None
                return False
            if self._post is None:
                delay_s = self._since + self._limits.max_delay_s - clock.monotonic()
                self._changed.wait_for(
                    lambda: self._count >= CHUNK or self._is_full or self._closing, max(0.0, delay_s)
                )
            return True

    def _pause(self, pause_s: float) -> None:
        with self._lock:
            self._changed.wait_for(lambda: self._closing, pause_s)

    # Sending

    def _attempt(self) -> bool:
        """Try once to send what there is, at most one attempt's worth; false if it failed."""
        with self._sending:
            post = self._load()
            if post is None:
                return True
            before = post.count
            try:
                while not post.over:
                    self._lines.attempt(post)
            finally:
                failed, first = self._settle(post, before)
        if failed:
            self._tell(post.failure(), first=first)
        return not failed

    def _settle(self, post: Post, before: int) -> tuple[bool, bool]:
        """Note what an attempt has left; whether that is anything, and whether it is the first to fail."""
        with self._lock:
            failed = bool(post.count)
            self._count -= before - post.count
            if not failed:
                self._post, self._bytes, self._post_bytes = None, self._bytes - self._post_bytes, 0
            first, self._error = self._error is None, post.failure() if failed else None
            self._changed.notify_all()
        return failed, first

    def _load(self) -> Post | None:
        """What the last attempt left, and messages from the front; None if there is nothing to send.

        While something is in doubt nothing is added: it has to be found out before anything else is written.
        """
        post = self._post
        if post is not None:
            post.again()
            if post.doubtful:
                return post
        with self._lock:
            pushes, rest, size = self._split(ATTEMPT - (post.count if post is not None else 0))
            # One step each, for which no handler of signals is called in between: no message is lost, none is doubled.
            if post is not None:
                post.left, self._waiting = post.left + pushes, rest
            elif pushes:
                self._post, self._waiting = self._lines.post(pushes, retries=0), rest
            else:
                self._count = self._bytes = self._post_bytes = 0
            self._post_bytes += size
        return self._post

    def _split(self, room: int) -> tuple[list[Push], deque[Push], int]:
        """Messages from the front, neighbours with the same key together; the others; the bytes of the first.

        The lock is held."""
        pushes: list[Push] = []
        taken = size = 0
        for composed in self._waiting:
            if room <= 0:
                break
            taken += 1
            room -= len(composed.ids)
            size += sum(map(len, composed.messages))
            _join(pushes, composed)
        self._since, self._is_full = clock.monotonic(), False
        return pushes, deque(islice(self._waiting, taken, None)), size

    def _tell(self, error: BrokerError, *, first: bool) -> None:
        if self._limits.on_error is not None:
            self._limits.on_error(error)
        elif first:
            logger.warning("messages wait in the buffer, and are tried again: %s", error.message)

    # The end

    def flush(self, timeout_s: float | None = None) -> None:
        """Send everything now, in this thread. Raises the BrokerError of what is left after one attempt without a
        time limit, or when the time is over."""
        until = None if timeout_s is None else clock.monotonic() + timeout_s
        while self._holds_any:
            if self._attempt():
                continue
            if until is None or clock.monotonic() + PAUSE_S > until:
                error = self._error
                if error is not None:  # the buffer's thread may have been luckier meanwhile
                    raise self._left(error)
            else:
                clock.sleep(PAUSE_S)

    @property
    def _holds_any(self) -> bool:
        return bool(self._waiting) or self._post is not None

    def _left(self, error: BrokerError) -> BrokerError:
        """The error of the last attempt, with the ids of everything that is in the buffer."""
        with self._lock:
            waiting = tuple(task_id for composed in self._waiting for task_id in composed.ids)
        return type(error)(
            f"{error.message}; {self._count} messages are in the buffer",
            unsent_ids=(*error.unsent_ids, *waiting),
            unknown_ids=error.unknown_ids,
        )

    def close(self) -> None:
        """Take nothing more, and send everything within `close_s`.

        Raises the BrokerError of what could not be sent and is given up now.
        """
        with self._lock:
            self._closing = True
            self._changed.notify_all()
        try:
            self.flush(self._limits.close_s)
        except BrokerError as error:
            self._give_up(error)
            raise
        finally:
            if self._finalizer is not None and not self._holds_any:
                self._finalizer.detach()

    def _give_up(self, error: BrokerError) -> None:
        with self._lock:
            self._waiting.clear()
            self._post, self._count, self._bytes, self._post_bytes = None, 0, 0, 0
        if self._limits.on_error is not None:
            self._limits.on_error(error)
        for word, ids in (("not sent", error.unsent_ids), ("perhaps not sent", error.unknown_ids)):
            for at in range(0, len(ids), IDS_A_LINE):
                logger.error("the producer gives up, tasks %s: %s", word, ", ".join(ids[at : at + IDS_A_LINE]))

    def finish_with(self, owner: object) -> None:
        """See that what is left is sent when the owner is collected or the program ends."""
        self._finalizer = weakref.finalize(owner, self.at_exit)
        self._finalizer.atexit = False  # there is `_end` for that
        # Children of multiprocessing end by os._exit, and call only what they are told of in this way.
        processes = sys.modules.get("multiprocessing.process")
        if processes is not None and processes.parent_process() is not None:
            from multiprocessing.util import Finalize

            Finalize(None, self.at_exit, exitpriority=0)

    def at_exit(self) -> None:
        """Send what is left when the program ends or the producer is collected. A forked child leaves that to its
        parent. Raises nothing: it is too late for anybody to catch it."""
        if not self.is_ours or not self._holds_any:
            return
        try:
            self.close()
        except BrokerError as error:
            logger.error("messages of a buffer were not sent: %s", error.message)


def _end() -> None:
    """Empty all buffers of this process, and have nobody use one any more."""
    global _ended
    _ended = True
    for buffer in list(_buffers):
        buffer.at_exit()


# Later than what the program registers after this was imported, and earlier than what it registered before.
atexit.register(_end)


def _join(pushes: list[Push], composed: Push) -> None:
    last = pushes[-1] if pushes else None
    if last is None or last.key != composed.key or len(last.ids) + len(composed.ids) > CHUNK:
        last = Push(composed.key, [], [])
        pushes.append(last)
    last.messages.extend(composed.messages)
    last.ids.extend(composed.ids)
