"""Beside the children: answer, one at a time, what only the application can; run no task, hold no message.

It leaves when the engine closes the line. A question that hangs is the engine's to notice: it kills this process and
has another forked. A process of another kind runs the application's schedule, and answers nothing.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import NoReturn

from fastq.child.goodbye import EXIT_BUG, attempt, flush_agents, flush_streams
from fastq.errors import OperatorError, ProcessLost
from fastq.ipc.link import Link
from fastq.program import Program, Question

logger: logging.Logger = logging.getLogger(__name__)


def main(program: Program, sock: socket.socket) -> NoReturn:
    """Run until the engine hangs up; never returns."""
    code = EXIT_BUG
    try:
        program.aside_init()
        serve(program, Link(sock, incoming=Question))
    except ProcessLost:
        code = 0
    except BaseException:
        # Whatever this is, the process must not run on into the nursery's code.
        logger.critical("the process beside the children ends over an error of its own", exc_info=True)
    finally:
        attempt(flush_streams)
        os._exit(code)


def schedule(program: Program) -> NoReturn:
    """Run the application's schedule until the engine ends it; never returns.

    The exit code is that of a usage error where another process would fail in the same way: then there is no other.
    """
    code = EXIT_BUG
    try:
        program.run_schedule()
        code = 0
    except OperatorError as error:
        logger.critical("beat: %s", error.message)
        code = OperatorError.exit_code
    except BaseException:
        logger.critical("the beat process ends over an error", exc_info=True)
    finally:
        attempt(flush_agents)
        attempt(flush_streams)
        os._exit(code)


def serve(program: Program, link: Link[Question]) -> None:
    """Answer questions, until nobody asks any more: then ProcessLost."""
    while True:
        for question in link.receive():
            link.send(program.answer(question))
