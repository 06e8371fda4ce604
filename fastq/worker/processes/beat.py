"""Keep one process beside the children that runs the application's schedule: Celery's beat (--beat), or ours.

It is started with the worker, again when it dies, and again when the application was reloaded. It is not started again
when it says that it cannot work with these settings. It is the first to be stopped, so that a worker that only finishes
what it has sends nothing new.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable

from fastq import clock
from fastq.errors import OperatorError
from fastq.ipc.messages import AsideExited, AsideForked
from fastq.worker.poll import Poller, Timers
from fastq.worker.processes import posix

logger: logging.Logger = logging.getLogger(__name__)

#: Its number among the processes beside the children. Those that answer questions count from 1.
NUMBER = 0

#: Seconds before one that died is replaced, doubled each time up to the last.
FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 30.0

#: Seconds after which one has worked: if it dies then, the pauses begin anew.
PROVEN_S = 60.0


class BeatProcess:
    """The process, or the intention to have none. `fork` asks the nursery for it."""

    def __init__(self, *, wanted: bool, poller: Poller, timers: Timers, fork: Callable[[], None]) -> None:
        self._wanted, self._poller, self._timers, self._fork = wanted, poller, timers, fork
        self._pid = 0
        self._pidfd: int | None = None
        self._pause_s = FIRST_PAUSE_S
        self._since_s = 0.0
        self._moving = False
        #: The nursery has been asked for one.
        self._asked = False
        #: It cannot work with these settings, whoever starts it.
        self._hopeless = False
        self._stopped = False

    def __repr__(self) -> str:
        return f"<BeatProcess pid={self._pid} wanted={self._wanted}>"

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._pidfd is not None

    def start(self) -> None:
        """Have it forked, unless nobody wants one."""
        if self._wanted and not (self.alive or self._asked or self._hopeless or self._stopped):
            self._asked = True
            self._fork()

    def forked(self, message: AsideForked, *, fd: int) -> None:
        """It runs. The line to it is not needed: it is told nothing but to end."""
        os.close(fd)
        self._asked = False
        self._pid, self._pidfd = message.pid, posix.open_pidfd(message.pid)
        self._since_s = clock.monotonic()
        if self._pidfd is None:
            self._ended()
        else:
            self._poller.watch(self._pidfd, lambda _events: self._ended())
            if not self._wanted or self._stopped:
                self._terminate()

    def exited(self, message: AsideExited) -> None:
        """It could not be forked; or how it ended. That it ended is seen by its pidfd, which needs no nursery."""
        if message.pid == 0:
            self._asked = False
            self._ended()
        elif message.pid == self._pid and os.waitstatus_to_exitcode(message.status) == OperatorError.exit_code:
            self._hopeless = True
            self._timers.cancel("beat process")
            logger.error("The schedule is not run by this worker; correct what is said above and start or reload it.")

    def relieve(self, *, wanted: bool) -> None:
        """Another nursery has loaded the application: have the schedule, if there is one, run by a process of that."""
        self._wanted, self._asked, self._hopeless = wanted, False, False
        self._timers.cancel("beat process")
        if self.alive:
            self._moving = True
            self._terminate()
        else:
            self.start()

    def stop(self) -> None:
        """Ask it to save its schedule and end; may be called twice."""
        if self.alive and not self._stopped:
            logger.info("beat: Shutting down...")
        self._stopped = True
        self._timers.cancel("beat process")
        self._terminate()

    def close(self) -> None:
        """Forget it: it dies with the nursery."""
        self._stopped = True
        self._forget()

    def _terminate(self) -> None:
        if self._pidfd is not None:
            posix.send(self._pidfd, signal.SIGTERM)

    def _forget(self) -> None:
        if self._pidfd is not None:
            self._poller.forget(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _ended(self) -> None:
        self._forget()
        moving, self._moving = self._moving, False
        if self._stopped or not self._wanted:
            return
        if moving:
            self.start()
            return
        if clock.monotonic() - self._since_s > PROVEN_S:
            self._pause_s = FIRST_PAUSE_S
        self._timers.set("beat process", self._pause_s, self._again)
        self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)

    def _again(self) -> None:
        # Said only now: how it ended comes by another way, and may be a reason to start no other.
        logger.error("The beat process pid:%d has ended; it is started again.", self._pid)
        self.start()
