"""Ask the application: a process beside the children, forked at the first question, that may hang without harm.

Each question has a time; whoever does not answer within it is killed, and the next question goes to a new process.
While one thinks, others are answered by further processes, which leave when there is nothing more to ask.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable

import msgspec

from fastq.errors import ProcessLost
from fastq.ipc.link import Link
from fastq.ipc.messages import AsideExited, AsideForked
from fastq.program import Question, Reply
from fastq.worker.poll import Poller, Timers
from fastq.worker.processes import posix

logger: logging.Logger = logging.getLogger(__name__)

#: Seconds that a question waits for a busy process before another one is forked.
PATIENCE_S = 0.2

#: Processes at the same time, and questions that wait for one; what comes beyond is refused.
MOST, MOST_WAITING = 4, 100

_LOST = "RuntimeError"

#: Called in the loop with the answer.
Done = Callable[[Reply], None]


class Asked(msgspec.Struct, frozen=True):
    """A question that waits, or is being answered."""

    question: Question
    done: Done


class Clerk(msgspec.Struct, kw_only=True):
    """One process beside the children."""

    number: int
    pid: int = 0
    pidfd: int | None = None
    link: Link[Reply] | None = None
    asked: Asked | None = None
    #: It answers one more question, if any.
    leaving: bool = False


class Desk:
    """Takes questions, gives answers. `fork` asks the nursery for a process with a number."""

    def __init__(self, *, poller: Poller, timers: Timers, fork: Callable[[int], None], timeout_s: float) -> None:
        self._poller, self._timers, self._fork, self._timeout_s = poller, timers, fork, timeout_s
        self._clerks: dict[int, Clerk] = {}
        self._line: deque[Asked] = deque()
        self._numbers = 0
        self._closed = False
        self._has_parent = True

    def __repr__(self) -> str:
        return f"<Desk {len(self._clerks)} processes, {len(self._line)} questions wait>"

    def ask(self, question: Question, done: Done) -> None:
        """Have `question` answered; `done(reply)` is called in the loop, always, and not before this returns."""
        if self._closed or len(self._line) >= MOST_WAITING:
            self._timers.set(f"desk-refused-{id(done)}", 0.0, lambda: done(_refusal("too many questions wait already")))
            return
        self._line.append(Asked(question, done))
        self._serve()

    def _serve(self) -> None:
        """Give what waits to whoever is free; get somebody if nobody is."""
        for clerk in self._clerks.values():
            if self._line and clerk.link is not None and clerk.asked is None and not clerk.leaving:
                self._give(clerk, self._line.popleft())
        if self._line and not self._clerks:
            self._hire()
        elif self._line and len(self._clerks) < MOST:
            self._timers.sooner("desk", PATIENCE_S, self._lose_patience)

    def _lose_patience(self) -> None:
        if self._line and not self._closed and all(clerk.link is not None for clerk in self._clerks.values()):
            self._hire()
        self._serve()

    def _hire(self) -> None:
        if not self._has_parent:
            return
        self._numbers += 1
        clerk = self._clerks[self._numbers] = Clerk(number=self._numbers)
        self._timers.set(f"desk-{clerk.number}", self._timeout_s, lambda: self._late(clerk))
        self._fork(clerk.number)

    def _give(self, clerk: Clerk, asked: Asked) -> None:
        assert clerk.link is not None
        clerk.asked = asked
        self._timers.set(f"desk-{clerk.number}", self._timeout_s, lambda: self._late(clerk))
        try:
            clerk.link.send(asked.question)
            self._watch(clerk)
        except ProcessLost:
            self._gone(clerk)

    # The processes

    def forked(self, message: AsideForked, *, fd: int) -> None:
        """The nursery has forked one; `fd` is our end of the line to it."""
        clerk = self._clerks.get(message.number)
        sock = socket.socket(fileno=fd)
        if clerk is None or self._closed:
            sock.close()  # it leaves
            return
        sock.setblocking(False)
        clerk.pid, clerk.pidfd = message.pid, posix.open_pidfd(message.pid)
        clerk.link = Link(sock, incoming=Reply)
        self._timers.cancel(f"desk-{clerk.number}")
        self._watch(clerk)
        self._serve()

    def exited(self, message: AsideExited) -> None:
        """The nursery says that one is gone, or could not be forked."""
        clerk = self._clerks.get(message.number)
        if clerk is not None:
            self._gone(clerk)

    def orphaned(self) -> None:
        """The nursery is gone, and with it what it has forked. `adopted` follows."""
        self._has_parent = False
        for clerk in list(self._clerks.values()):
            self._gone(clerk)

    def adopted(self) -> None:
        """Another nursery is ready to fork."""
        self._has_parent = True
        self._serve()

    def relieve(self) -> None:
        """Another nursery has loaded the application: ask processes of the one before nothing more."""
        for clerk in list(self._clerks.values()):
            if clerk.asked is None:
                self._dismiss(clerk)
            else:
                clerk.leaving = True
        self._has_parent = True
        self._serve()

    def _watch(self, clerk: Clerk) -> None:
        link = clerk.link
        assert link is not None
        self._poller.watch(link.fileno(), lambda events: self._ready(clerk, events), write=link.wants_to_write)

    def _ready(self, clerk: Clerk, events: int) -> None:
        if clerk.link is None:
            return
        try:
            if events & select.EPOLLOUT:
                clerk.link.flush()
                self._watch(clerk)
            if events & ~select.EPOLLOUT:
                for reply in clerk.link.receive():
                    self._answered(clerk, reply)
        except (ProcessLost, msgspec.DecodeError):
            self._gone(clerk)

    def _answered(self, clerk: Clerk, reply: Reply) -> None:
        asked, clerk.asked = clerk.asked, None
        self._timers.cancel(f"desk-{clerk.number}")
        if asked is not None:
            asked.done(reply)
        if clerk.leaving:
            self._dismiss(clerk)
        self._serve()
        idle = [one for one in self._clerks.values() if one.asked is None]
        if clerk in idle and len(idle) > 1 and not self._line:
            self._dismiss(clerk)

    def _late(self, clerk: Clerk) -> None:
        name = clerk.asked.question.name if clerk.asked is not None else "its start"
        logger.error("%s has taken longer than %g s; the process pid:%d is killed.", name, self._timeout_s, clerk.pid)
        if clerk.pidfd is not None:
            posix.send(clerk.pidfd, signal.SIGKILL)
        self._gone(clerk, why=f"{name} has taken longer than {self._timeout_s:g} seconds", error="TimeoutError")

    def _gone(self, clerk: Clerk, *, why: str = "the process that answers has ended", error: str = _LOST) -> None:
        if self._clerks.get(clerk.number) is not clerk:
            return
        asked, clerk.asked = clerk.asked, None
        self._dismiss(clerk)
        if asked is not None:
            asked.done(_refusal(why, error=error))
        elif self._line and clerk.pid == 0:
            self._line.popleft().done(_refusal("no process could be forked to answer it"))
        self._serve()

    def _dismiss(self, clerk: Clerk) -> None:
        """Hang up: a process that is alive leaves over it."""
        self._clerks.pop(clerk.number, None)
        self._timers.cancel(f"desk-{clerk.number}")
        if clerk.link is not None:
            self._poller.forget(clerk.link.fileno())
            clerk.link.close()
            clerk.link = None
        if clerk.pidfd is not None:
            with contextlib.suppress(OSError):
                os.close(clerk.pidfd)
            clerk.pidfd = None

    def close(self) -> None:
        """Hang up on all; may be called twice."""
        self._closed = True
        for clerk in list(self._clerks.values()):
            self._dismiss(clerk)
        self._line.clear()


def _refusal(why: str, *, error: str = _LOST) -> Reply:
    # In the way of kombu's pidbox: the repr of an exception.
    return Reply(value=json.dumps({"error": f"{error}({why!r})"}).encode(), failed=True)
