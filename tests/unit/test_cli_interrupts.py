"""An interruption ends what it is meant for, whatever runs when it comes."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from fastq.cli.interrupts import interruptible


class Unlucky:
    """Interrupted while it goes."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)


def interrupted() -> None:
    with interruptible():
        Unlucky()
        time.sleep(5)


def test_an_interruption_in_a_destructor_arrives_and_everything_is_as_before() -> None:
    before = sys.unraisablehook, [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert before == (
        sys.unraisablehook,
        [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
    )
