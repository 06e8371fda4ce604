"""An interruption that arrives: INT and TERM unwind everything, also when they come while a destructor runs."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

#: Seconds after which an interruption that was dropped is raised again.
AGAIN_S = 0.05


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within the block, INT and TERM raise KeyboardInterrupt in the main thread, which has to be the one that is in it.

    What is raised while a destructor runs, the interpreter drops: it only tells `sys.unraisablehook`. From there the
    alarm is set, which raises it again a moment later, outside.
    """
    hook, raises = sys.unraisablehook, signal.default_int_handler
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}

    def dropped(what: UnraisableHookArgs) -> None:
        if issubclass(what.exc_type, KeyboardInterrupt):
            signal.signal(signal.SIGALRM, raises)
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        else:
            hook(what)

    for number in numbers[:2]:
        signal.signal(number, raises)
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
