"""How a frame ends whose task is not run: what has to be sent before, which may block, apart from the end itself.

In an event loop the first half is done in a thread. Killed between the halves: the frame has not ended, so its message
comes again, or is judged again, and what was sent is sent once more, with the same ids.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fastq import clock
from fastq.app.running.message import Message

#: What is to be done before a frame ends, and may block; it returns what ends the frame.
Work = Callable[[], Callable[[], None]]


class Closing(NamedTuple):
    """How a frame ends whose task is not run, or is not waited for."""

    #: Whether `work` blocks.
    blocks: bool
    #: Does what has to be done before; what it returns ends the frame and does not block.
    work: Work

    def carry_out(self) -> None:
        """All of it, here and now."""
        self.work()()


def comes_late(message: Message) -> bool:
    """Whether its time was over before it was started."""
    expires = message.header.expires
    return expires is not None and clock.now() > expires
