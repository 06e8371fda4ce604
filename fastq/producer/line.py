"""Connections to Redis for programs without an event loop: opened on first use, kept for the next, never shared.

A line is in use by one thread at a time. Lines that wait for the next user are looked at before they are used: one
that the server has closed meanwhile is replaced before anything is written to it.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import sys
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Any

import hiredis

from fastq import clock
from fastq.errors import BrokerError
from fastq.producer.post import Lost, Post
from fastq.transport.connect import Endpoint, refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastq.producer.compose import Push
    from fastq.producer.options import Replicas
    from fastq.transport.connect import OpenConnection

#: Bytes read at once. Answers to pushes have a few bytes, results may be long.
READ_BYTES = 65536


#: Seconds within which a line that has answered is taken again without a look at it: who sends in a loop need not ask
#: the kernel each time. Should the server have closed it in that time, the push is in doubt and is looked for.
FRESH_S = 0.001

#: Seconds for which a thread that sends in a loop asks for the answer again and again before it sleeps until it comes.
#: A server on the same machine answers sooner than a sleeping core wakes up: watching costs no more processor time than
#: falling asleep and being woken, and a third of the wait (competitive spinning: Karlin et al., SOSP 1991).
SPIN_S = 0.00005

#: Questions that are asked without watching after the answer was too late for it, doubled each time up to this many.
#: So a server further away costs a microsecond a question.
MOST_SKIPPED = 64

#: Elsewhere the limits of a socket are Python's: the kernel's are of another type on Windows.
_ON_LINUX = sys.platform == "linux"

#: Windows has no such flag, and is not asked with it.
_AT_ONCE: int = getattr(socket, "MSG_DONTWAIT", 0)


class Line:
    """One connection, on which one thread asks and waits for the answer."""

    def __init__(self, opened: OpenConnection, *, timeout_s: float) -> None:
        self._opened = opened
        self._sock = sock = opened.sock
        self._timeout_s = timeout_s
        self._reader = hiredis.Reader()
        #: When it was given back last, on the monotonic clock.
        self.given_s: float = 0.0
        #: Whether the next answer is worth watching for, since the thread is alone and would soon be woken.
        self.hurried: bool = False
        self._skip = 0
        self._skip_next = 1
        # Not what others have put their own class on (TLS, gevent).
        self._is_plain = _ON_LINUX and type(sock) is socket.socket and socket.socket.__module__ == "socket"
        self._limit(timeout_s)
        self._peek = _peek_at(sock.fileno())

    def __repr__(self) -> str:
        return f"<Line {self._opened!r}>"

    def _limit(self, timeout_s: float) -> None:
        # The kernel's time limits cost nothing; Python's cost a poll() around each call.
        if self._is_plain:
            value = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6) or 1)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
        else:
            self._sock.settimeout(timeout_s)

    @property
    def usable(self) -> bool:
        """Tell whether it is still open, and silent as it should be between two questions."""
        return not self._peek.poll(0) or (self._opened.is_tls and self._only_records())

    def _only_records(self) -> bool:
        """Tell whether what came on a TLS connection is for TLS alone, such as a ticket for its next session."""
        try:
            self._sock.settimeout(0)
            self._sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        finally:
            self._sock.settimeout(self._timeout_s)
        return False

    def ask(self, request: bytes, count: int, *, patience_s: float = 0.0) -> list[Any]:
        """Write commands and return their `count` replies; an error among them is a HiredisError, not raised.

        Raises Lost, after which the line is closed. Any exception leaves it unusable: close it.
        """
        replies: list[Any] = []
        try:
            if patience_s:
                self._limit(self._timeout_s + patience_s)
            self._sock.sendall(request)
            if self.hurried and self._is_plain:
                self._watch(replies)
            while len(replies) < count:
                self._wait(self._timeout_s + patience_s)
                self._read(replies)
            if patience_s:
                self._limit(self._timeout_s)
        except (OSError, hiredis.ProtocolError) as error:
            self.close()
            raise Lost(_reason(error), replies=replies) from error
        return replies

    def _wait(self, seconds: float) -> None:
        """Sleep until there is something to read. The kernel's own limit would begin anew at each signal that Python
        handles: a profiler's timer makes it endless."""
        if self._is_plain and not self._peek.poll(seconds * 1000):
            raise TimeoutError

    def _watch(self, replies: list[Any]) -> None:
        """Look for an answer without sleeping, for a short time, and less often where it never comes in that."""
        if self._skip:
            self._skip -= 1
            return
        now = clock.monotonic
        until_s = now() + SPIN_S
        while now() < until_s:
            try:
                self._read(replies, _AT_ONCE)
            except BlockingIOError:
                continue
            self._skip_next = 1
            return
        self._skip = self._skip_next
        self._skip_next = min(self._skip_next * 2, MOST_SKIPPED)

    def _read(self, replies: list[Any], flags: int = 0) -> None:
        data = self._sock.recv(READ_BYTES, flags)
        if not data:
            raise ConnectionResetError("closed by the server")
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            replies.append(reply)

    def listen(self, timeout_s: float) -> list[Any]:
        """Return what comes within that time, at least one reply unless nothing comes. Raises Lost."""
        replies: list[Any] = []
        if self._pending() or self._peek.poll(max(0.0, timeout_s) * 1000):
            try:
                self._read(replies)
            except (OSError, hiredis.ProtocolError) as error:
                self.close()
                raise Lost(_reason(error)) from error
        return replies

    def _pending(self) -> bool:
        """Tell whether decrypted bytes wait inside the TLS layer, where poll() does not see them."""
        pending = getattr(self._sock, "pending", None)
        return bool(pending is not None and pending())

    def close(self) -> None:
        """Close it; may be called twice. A copy in a forked child closes nothing for its parent."""
        self._opened.close()


class _Select:
    """What `select.poll()` does for one socket, where there is none (Windows)."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def poll(self, timeout_ms: float) -> list[Any]:
        """Something if there is something to read, or if nothing can be read any more."""
        try:
            return select.select([self._fd], [], [], timeout_ms / 1000)[0]
        except (OSError, ValueError):
            return [self._fd]


def _peek_at(fd: int) -> Any:
    if not hasattr(select, "poll"):
        return _Select(fd)
    peek = select.poll()
    peek.register(fd, select.POLLIN)
    return peek


def _reason(error: Exception) -> str:
    if isinstance(error, (BlockingIOError, TimeoutError)):
        return "no answer in time"
    return str(error) or type(error).__name__


class Lines:
    """All connections of one process to one server. Threads take and give back; a fork starts with none."""

    def __init__(self, endpoint: Endpoint, *, timeout_s: float, client_name: str = "") -> None:
        self._endpoint = endpoint
        #: The server as messages name it, without password.
        self.where: str = f"the {endpoint.role.name} {endpoint.masked()}"
        self._timeout_s = timeout_s
        self._client_name = client_name
        self._pid = os.getpid()
        self._idle: deque[Line] = deque()
        #: Threads that have a line. Not the lines: one that an exception from a signal handler has torn from its
        #: thread is collected, and closed by that, and its thread's next turn puts this right.
        self._taken: set[int] = set()

    def take(self) -> Line:
        """Return a usable line of this process, a new one if there is none. Blocks while it is made.

        Raises BrokerUnavailable or BrokerRefused; nothing was written then.
        """
        if self._pid != os.getpid():
            self._leave_parent()
        idle, taken = self._idle, self._taken
        while idle:
            try:
                line = idle.pop()
            except IndexError:
                break  # another thread was faster
            fresh = clock.monotonic() - line.given_s < FRESH_S
            if fresh or line.usable:
                # Only who is alone: threads that watch would keep the others from the interpreter.
                line.hurried = fresh and not taken
                taken.add(get_ident())
                return line
            line.close()
        line = Line(self._endpoint.open(self._timeout_s, self._client_name), timeout_s=self._timeout_s)
        taken.add(get_ident())
        return line

    def _leave_parent(self) -> None:
        """Close this process's copies of the parent's connections; the parent's own stay open."""
        copies, self._idle, self._taken, self._pid = self._idle, deque(), set(), os.getpid()
        for line in copies:
            line.close()

    def give(self, line: Line) -> None:
        """Take a line back for the next user."""
        line.given_s = clock.monotonic()
        self._taken.discard(get_ident())
        self._idle.append(line)

    def drop(self, line: Line) -> None:
        """Close a line that was taken, and that nobody can use any more."""
        self._taken.discard(get_ident())
        line.close()

    def ask(self, request: bytes, count: int = 1) -> list[Any]:
        """Write commands that only read, and return the replies; once more on a new line if the first was lost."""
        for last in (False, True):
            line = self.take()
            try:
                replies = line.ask(request, count)
            except Lost:
                self.drop(line)
                if last:
                    raise
            except BaseException:
                self.drop(line)
                raise
            else:
                self.give(line)
                return replies
        raise AssertionError("unreachable")

    def deliver(self, post: Post) -> None:
        """Drive a post until it is over. Blocks; raises nothing of the broker's: the post knows what came of it."""
        while not post.over:
            if post.pause_s:
                clock.sleep(post.pause_s)
            self.attempt(post)

    def attempt(self, post: Post) -> None:
        """Try once, on one connection."""
        try:
            line = self.take()
        except BrokerError as error:
            return post.failed(error)
        request, count = post.request()
        try:
            replies = line.ask(request, count, patience_s=post.patience_s)
            through = post.answered(replies, self.explain)
        except Lost as lost:
            self.drop(line)
            self.close()  # the others lead to the same server, and may only look alive
            return post.lost(lost, self.explain)
        except BaseException:
            post.interrupted()
            self.drop(line)  # an answer may still come, which must not be taken for that to the next question
            raise
        self.give(line)
        if not through:
            self.close()
        return None

    def explain(self, answer: str) -> BrokerError:
        """Tell a server's error as one of ours."""
        return refusal(answer, address=self._endpoint.address, role=self._endpoint.role)

    def post(self, pushes: Sequence[Push], *, retries: int, confirm: Replicas | None = None) -> Post:
        """Return a post of these pushes to this server, which nobody has tried yet."""
        return Post(pushes, retries=retries, confirm=confirm, where=self.where)

    def close(self) -> None:
        """Close the lines that nobody uses; others are closed by whoever has them."""
        idle, self._idle = self._idle, deque()
        if self._pid == os.getpid():
            for line in idle:
                line.close()
