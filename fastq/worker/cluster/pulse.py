"""Let the application hear the worker's heartbeat: probes touch a file in receivers of `heartbeat_sent`.

Nothing happens unless somebody listens. As with Celery it beats while the broker is there, once more when it begins and
when it ends.
"""

from __future__ import annotations

from collections.abc import Callable

from fastq.worker.poll import Timers

_TIMER = "pulse"


class Pulse:
    """Tells the nursery, which is where the application's receivers are."""

    def __init__(self, interval_s: float | None, *, timers: Timers, notify: Callable[[str, dict[str, object]], None]):
        self._interval_s, self._timers, self._notify = interval_s, timers, notify

    def start(self) -> None:
        """Beat now and from now on."""
        if self._interval_s is not None:
            self._beat()
            self._timers.set(_TIMER, self._interval_s, self.start)

    def stop(self) -> None:
        """Beat once more, unless that was the last one already."""
        if _TIMER in self._timers:
            self._timers.cancel(_TIMER)
            self._beat()

    def _beat(self) -> None:
        self._notify("heartbeat_sent", {"interval_s": self._interval_s})
