"""Tell systemd how the worker is: sd_notify(3), for units with Type=notify-reload or notify, and WatchdogSec.

Without NOTIFY_SOCKET in the environment (nobody asked), nothing is done. The watchdog's message is sent by the engine's
loop: one that hangs is not heard of any more, and systemd kills and restarts it. Its messages go back meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import socket

from fastq import clock
from fastq.worker.poll import Timers


class Service:
    """The worker as systemd sees it. Reads and removes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, so that programs
    which tasks start don't speak for the worker."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._address = os.environ.pop("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        watchdog_us, pid = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
        ours = watchdog_us.isdigit() and (not pid or pid == str(os.getpid()))
        #: Twice as often as systemd waits, as its manual says.
        self._alive_every_s = int(watchdog_us) / 2e6 if ours and self._address else 0.0

    def restore(self) -> None:
        """Put back what was taken from the environment: the same process begins again by exec."""
        if self._address:
            os.environ["NOTIFY_SOCKET"] = self._address.replace("\0", "@", 1)
        if self._alive_every_s:
            os.environ["WATCHDOG_USEC"] = str(int(self._alive_every_s * 2e6))

    def ready(self, status: str) -> None:
        """It works (again, after a reload)."""
        self._say("READY=1", f"STATUS={status}")
        if self._alive_every_s:
            self._alive()

    def reloading(self) -> None:
        """A reload has begun; `ready` follows, also when it failed."""
        self._say(
            "RELOADING=1", f"MONOTONIC_USEC={clock.monotonic_ns() // 1000}", "STATUS=loading the application again"
        )

    def stopping(self) -> None:
        """It takes nothing more."""
        self._say("STOPPING=1", "STATUS=waiting for running tasks")

    def _alive(self) -> None:
        self._say("WATCHDOG=1")
        self._timers.set("watchdog", self._alive_every_s, self._alive)

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto("\n".join(lines).encode(), self._address)
