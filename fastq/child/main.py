"""The life of a child: get ready, run frames until there is a reason to leave, say goodbye."""

from __future__ import annotations

import faulthandler
import logging
import os
from pathlib import Path
from typing import NoReturn, cast

import msgspec

from fastq._core import TASK, ChildPort, Segment
from fastq.child.goodbye import EXIT_BUG, EXIT_RECYCLE, say_goodbye
from fastq.ipc.segment import stack_path
from fastq.program import LoopProgram, Program, Worker

logger: logging.Logger = logging.getLogger(__name__)

#: What `work` found: nothing for Python to do, a started frame that is Python's, a request to leave.
NOTHING, FRAME, LEAVE = 0, 1, 2


class LoopOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Of a child with an event loop: tasks in flight at most, and the eventfd by which the engine wakes it."""

    limit: int
    waker: int


def main(
    program: Program,
    *,
    segment: Segment,
    slot: int,
    eventfd: int,
    side_prefix: str,
    max_tasks: int | None,
    loop: LoopOptions | None = None,
) -> NoReturn:
    """Run as the child of `slot`, with `loop` as one that has an event loop; never returns."""
    code = EXIT_BUG
    try:
        port = ChildPort(segment, slot, eventfd, side_prefix)
        program.child_init(port, number=slot + 1)
        keep_last_words(stack_path(side_prefix, slot))
        if loop is not None:
            from fastq.child.loop import run_loop

            code = run_loop(cast(LoopProgram, program), port, loop, max_tasks=max_tasks)
        else:
            worker = program.runner(max_tasks=max_tasks) or PlainRunner(port)
            port.ready(os.getpid())
            code = run(program, port, worker, max_tasks=max_tasks)
    except SystemExit as leaving:
        code = exit_code(leaving)
    except BaseException:
        # Whatever this is, the process must not run on into the nursery's code.
        logger.critical("a child of fastq ends over an error of its own", exc_info=True)
    finally:
        say_goodbye(program, code=code)


def keep_last_words(path: Path) -> None:
    """Have faulthandler write there where this process was, should it end by a fatal error; the engine reads it."""
    try:
        fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError:
        return  # without it, the stack goes where it would go anyway
    faulthandler.enable(fd)


def run(program: Program, port: ChildPort, worker: Worker, *, max_tasks: int | None) -> int:
    """Run frames; the exit code when there is a reason to leave."""
    while True:
        found = worker.work()
        if found == FRAME:
            run_frame(program, port, worker)
        elif found == LEAVE:
            port.retire()  # whoever takes over need not wait for the end of this process
            return 0
        if max_tasks and worker.executed >= max_tasks:
            # The engine deals what was not started to others.
            port.retire()
            return EXIT_RECYCLE


def run_frame(program: Program, port: ChildPort, worker: Worker) -> None:
    """Let the program carry out the started frame. Only tasks count as executed."""
    is_task = port.kind == TASK
    try:
        program.run(port)
    finally:
        if is_task:
            worker.count()


class PlainRunner:
    """The plain-Python twin of `fastq._core.Runner`: leaves every frame to Python."""

    def __init__(self, port: ChildPort, *, idle_s: float = -1.0) -> None:
        self.port: ChildPort = port
        self.idle_s: float = idle_s
        self._executed = 0

    @property
    def executed(self) -> int:
        """Tasks executed by this process."""
        return self._executed

    def count(self) -> None:
        """One more task has been executed."""
        self._executed += 1
        self.port.count_executed()

    def work(self) -> int:
        """Wait for a frame and start it."""
        if self.port.stopping:
            return LEAVE
        found: int = self.port.wait(self.idle_s)
        if found != FRAME:
            return found
        return FRAME if self.port.start() else NOTHING


def exit_code(leaving: SystemExit) -> int:
    """The exit code that the interpreter would make of it."""
    if leaving.code is None:
        return 0
    return leaving.code & 0xFF if isinstance(leaving.code, int) else 1
