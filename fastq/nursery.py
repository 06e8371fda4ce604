"""The nursery: imports the application once, in one thread, and forks children from it. `python -m fastq.nursery FD`.

It opens no connection, runs no task and decides nothing: it forks when the engine says so, reports who is gone, and
sends the signals of Celery's main process. When the engine dies, it dies, and its children with it.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import math
import mmap
import os
import select
import signal
import socket
import sys
import warnings
from collections.abc import Sequence
from typing import Literal, NoReturn

from fastq import dumps
from fastq._core import Segment
from fastq.child import aside
from fastq.child import main as child_main
from fastq.child.goodbye import EXIT_BUG, forget_inherited_hooks
from fastq.child.main import LoopOptions
from fastq.errors import FastqError, ProcessLost
from fastq.ipc.group import LEFT_TO_THE_ENGINE, STOPS
from fastq.ipc.link import Link
from fastq.ipc.messages import (
    Aside,
    AsideExited,
    AsideForked,
    Exited,
    Failed,
    Fork,
    Forked,
    Notify,
    Ready,
    Remember,
    Start,
    Stop,
    ToNursery,
)
from fastq.program import Program
from fastq.programs import program_of

logger: logging.Logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1

#: What a child reports as its status when it could not be forked: exit code 71, EX_OSERR.
NOT_FORKED = 71 << 8


class Nursery:
    """One application, ready to be forked."""

    def __init__(self, link: Link[ToNursery], *, program: Program | None = None) -> None:
        self.link = link
        self.program: Program
        self._given = program
        self.children: dict[int, int] = {}  # pid -> slot
        self.asides: dict[int, int] = {}  # pid -> number
        self.segment: Segment | None = None
        self.start: Start | None = None
        #: Tasks that a child may have in flight; 0: it has no event loop.
        self.coroutines: int = 0

    # ------------------------------------------------------------------------ beginning

    def begin(self, start: Start) -> bool:
        """Load the application; False, with the engine told why, if that is impossible."""
        self.start = start
        # Inherited by children, not by programs that tasks start.
        os.set_inheritable(start.eventfd, False)
        # Before the application can change our user: the file is the engine's.
        self.segment = attach(start.segment)
        try:
            self.program = self._given or program_of(start.options)
            self.program.load(start.options)
            self.program.start()
            info = self.program.describe(numbered=start.tasks)
        except FastqError as error:
            details = str(error.evidence.get("details", ""))
            code = error.evidence.get("exit_code", error.exit_code)
            self.link.send(Failed(message=error.message, exit_code=int(str(code)), details=details))
            return False
        # The kernel forgets it when a process changes its user, which the application's settings can ask for.
        die_with_parent(os.getppid())
        self.program.before_fork()
        self._keep_memory_shared()
        self.coroutines = info.coroutines
        self.link.send(Ready(program=info))
        return True

    @staticmethod
    def _keep_memory_shared() -> None:
        # Objects that the collector never visits again keep their pages shared with all children. Not collected first:
        # it takes a tenth of the start, and the holes that it leaves would be filled, and copied, by each child.
        gc.freeze()
        gc.enable()

    # ------------------------------------------------------------------------ loop

    def serve(self, waiting: Sequence[ToNursery] = ()) -> None:
        """Answer the engine until it says stop or is gone; first `waiting`, which came while the application loaded."""
        wake = self._watch_children()
        if not self._obey(waiting):
            return
        poll = select.poll()
        poll.register(self.link.fileno(), select.POLLIN)
        poll.register(wake, select.POLLIN)
        while True:
            due_s = self.program.run_due()
            ready = {fd for fd, _event in poll.poll(None if due_s is None else math.ceil(due_s * 1000))}
            if wake in ready:
                os.read(wake, 4096)
                self.reap()
            if self.link.fileno() in ready and not self._obey(self.link.receive()):
                return

    def _watch_children(self) -> int:
        # The handler does nothing: what matters is the byte that the interpreter writes into the pipe.
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda signum, frame: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._wake_fds = (reader, writer)
        return reader

    def _obey(self, messages: Sequence[ToNursery]) -> bool:
        for message in messages:
            if isinstance(message, Fork):
                self.fork(message)
            elif isinstance(message, Aside):
                self.fork_aside(message.number, kind=message.kind)
            elif isinstance(message, Notify):
                self.program.notify(message.signal, message.arguments)
            elif isinstance(message, Remember):
                self.program.remember(message.revoked)
            elif isinstance(message, Stop):
                self.program.notify("worker_shutdown", {})
                return False
        return True

    def reap(self) -> None:
        """Report every child that is gone. Only ours are waited for: the application may have others."""
        for pid, slot in list(self.children.items()):
            found, status, usage = os.wait4(pid, os.WNOHANG)
            if found:
                del self.children[pid]
                self.link.send(Exited(slot=slot, pid=pid, status=status, maxrss_kib=usage.ru_maxrss))
        for pid, number in list(self.asides.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self.asides[pid]
                self.link.send(AsideExited(number=number, pid=pid, status=status))

    def kill_children(self) -> None:
        """End what is left."""
        for pid in (*self.children, *self.asides):
            os.kill(pid, signal.SIGKILL)

    # ------------------------------------------------------------------------ forking

    def fork(self, wish: Fork) -> None:
        """Fork the child of a slot, or report that it could not be done."""
        me, slot = os.getpid(), wish.slot
        self.program.notify("worker_before_create_process", {})
        flush_streams()
        waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if self.coroutines else None
        try:
            pid = os.fork()
        except OSError as error:
            logger.error("cannot fork a child for slot %d: %s", slot, error)
            self.link.send(Exited(slot=slot, pid=0, status=NOT_FORKED, maxrss_kib=0))
            if waker is not None:
                os.close(waker)
            return
        if pid == 0:
            self._be_child(wish, parent=me, waker=waker)
        self.children[pid] = slot
        if waker is None:
            self.link.send(Forked(slot=slot, pid=pid))
            return
        self.link.send_with(Forked(slot=slot, pid=pid, waker=True), fd=waker)
        os.close(waker)

    def _be_child(self, wish: Fork, *, parent: int, waker: int | None) -> NoReturn:
        try:
            die_with_parent(parent)
            self._let_go()
            dumps.answer()
            forget_inherited_hooks()
            assert self.segment is not None
            assert self.start is not None
            child_main.main(
                self.program,
                segment=self.segment,
                slot=wish.slot,
                eventfd=self.start.eventfd,
                side_prefix=self.start.segment,
                max_tasks=wish.max_tasks,
                loop=None if waker is None else LoopOptions(limit=self.coroutines, waker=waker),
            )
        finally:
            os._exit(EXIT_BUG)

    def fork_aside(self, number: int, *, kind: Literal["desk", "beat"]) -> None:
        """Fork a process beside the children, or report that it could not be done."""
        me = os.getpid()
        flush_streams()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                pid = os.fork()
            except OSError as error:
                logger.error("cannot fork a process beside the children (%s): %s", kind, error)
                self.link.send(AsideExited(number=number, pid=0, status=NOT_FORKED))
                return
            if pid == 0:
                ours.close()
                self._be_aside(theirs, kind=kind, parent=me)
            self.asides[pid] = number
            self.link.send_with(AsideForked(number=number, pid=pid), fd=ours.fileno())

    def _be_aside(self, sock: socket.socket, *, kind: Literal["desk", "beat"], parent: int) -> NoReturn:
        try:
            die_with_parent(parent)
            self._let_go()
            forget_inherited_hooks()
            if kind == "beat":
                aside.schedule(self.program)
            aside.main(self.program, sock)
        finally:
            os._exit(EXIT_BUG)

    def _let_go(self) -> None:
        """Give up what is the nursery's: its signals and its descriptors."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.link.close()
        for fd in self._wake_fds:
            os.close(fd)
        self.children.clear()
        self.asides.clear()


def attach(path: str) -> Segment:
    """Map the shared segment; children inherit the mapping."""
    with open(path, "r+b") as file:
        return Segment.attach(mmap.mmap(file.fileno(), 0))


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends. It may have ended before this call: then end now."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise ProcessLost(f"prctl(PR_SET_PDEATHSIG) failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        os._exit(1)


def flush_streams() -> None:
    """What is buffered at the fork would be written twice."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()


def _leave_it_to_the_engine(_number: int, _frame: object) -> None:
    """The engine got the signal too, or was meant to."""


def main(argv: list[str]) -> int:
    """Be the nursery at the other end of descriptor `argv[1]`."""
    die_with_parent(os.getppid())
    return be(socket.socket(fileno=int(argv[1])))


def be(sock: socket.socket, *, program: Program | None = None) -> int:
    """Be the nursery at this end of a line; of a program that is there already, if there is one. An exit code."""
    gc.disable()  # an import makes little garbage; looking for it again and again is a tenth of the start
    # The terminal sends Ctrl+C to the whole group; what it means is the engine's to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (*STOPS, signal.SIGUSR1):
        # A handler, not SIG_IGN, which programs that tasks start would inherit.
        signal.signal(number, _leave_it_to_the_engine)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_THE_ENGINE)
    warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
    dumps.answer()
    sock.set_inheritable(False)
    nursery = Nursery(Link(sock, incoming=ToNursery), program=program)
    try:
        return _serve(nursery)
    except ProcessLost:
        return 1  # the engine is gone
    finally:
        nursery.kill_children()


def _serve(nursery: Nursery) -> int:
    received: list[ToNursery] = []
    while not received:
        received = nursery.link.receive()
    start = received[0]
    assert isinstance(start, Start), f"the first message must be Start, not {start!r}"
    if not nursery.begin(start):
        return 1
    nursery.serve(received[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
