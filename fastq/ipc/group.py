"""Signals that may come to all processes of a worker at once: what they mean is the engine's to decide, for all.

`systemctl stop` with systemd's default KillMode, `docker stop` behind an init that forwards to its process group, and
supervisord's stopasgroup send a signal to every process; a child that ended by it would take its task with it.
"""

from __future__ import annotations

import os
import signal

from fastq import clock
from fastq.program import Hearing

#: Those for which a child has a handler of its own, in the order of their numbers.
STOPS = (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)

#: Those by which no other process may end. (Ctrl-C comes to a terminal's group; USR1 asks the engine for its stacks,
#: and comes to all from `systemctl kill`.)
LEFT_TO_THE_ENGINE = (*STOPS, signal.SIGINT, signal.SIGUSR1)

#: Seconds for which a child waits to see whether the engine has got the signal, too: a busy machine may take that long.
PATIENCE_S = 2.0

_LOOK_S = 0.002


class Stops:
    """What came to one child, compared with what came to its engine: one signal there excuses one here."""

    def __init__(self, door: Hearing) -> None:
        self._door, self._pid = door, os.getpid()
        self._excused = {int(number): door.heard(number) for number in STOPS}

    def is_for_me(self, number: int) -> bool:
        """Whether this process is to end, because the engine or somebody else wants that of it alone.

        For a signal's handler; blocks up to PATIENCE_S. A signal of which the engine has had as many is excused however
        late it is looked at: handlers run between two steps of Python, which may be minutes apart.
        """
        if os.getpid() != self._pid or number not in self._excused:
            return True  # a process that a task has forked
        until_s = clock.monotonic() + PATIENCE_S
        while not self._door.ending and clock.monotonic() < until_s:
            if self._door.heard(number) != self._excused[number]:
                # Not all that it has heard: another one may be on its way here.
                self._excused[number] += 1
                return False
            clock.sleep(_LOOK_S)
        return True
