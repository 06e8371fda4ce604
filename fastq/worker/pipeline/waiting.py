"""Bring back what waited for its time. Only the time and the place are in memory; the message stays on the broker."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastq import _core, clock
from fastq.transport.redis import commands
from fastq.worker.pipeline.intake import Intake
from fastq.worker.poll import Timers

logger: logging.Logger = logging.getLogger(__name__)

#: Messages fetched at once.
FETCH = 200

#: Seconds that a timer sleeps at most, so that a wall clock that was set is noticed.
LONGEST_S = 1.0


class _Fetch:
    """Messages on their way that have become due."""

    def __init__(self, waiting: Waiting, due: list[tuple[int, bytes, int]]) -> None:
        self._waiting = waiting
        self.left = due

    def begin(self, reader: _core.Reader) -> None: ...

    def read(self, reader: _core.Reader) -> bool:
        while self.left:
            whole, message = reader.value()
            if not whole:
                return False
            entry = self.left.pop(0)
            self._waiting.fetched(entry, message)
        return True


class Waiting:
    """Messages with an ETA."""

    def __init__(
        self, ledger: _core.Ledger, *, intake: Intake, timers: Timers, admit: Callable[[int, bytes], None]
    ) -> None:
        self._ledger, self._intake, self._timers, self._admit = ledger, intake, timers, admit
        self._fetching: _Fetch | None = None
        self._again: list[tuple[int, bytes, int]] = []

    def pump(self) -> None:
        """Fetch what is due, or set the timer."""
        if self._fetching is not None or not self._intake.connected:
            return
        due = self._again or self._ledger.take_due(clock.now(), FETCH)
        self._again = []
        if due:
            self._fetching = _Fetch(self, due)
            self._intake.ask(b"".join(commands.pack("LINDEX", claim, at) for _, claim, at in due), self._fetching)
        else:
            self._set_timer()

    def _set_timer(self) -> None:
        at = self._ledger.next_due()
        if at is not None:
            self._timers.sooner("due", min(max(0.0, at - clock.now()), LONGEST_S), self.pump)

    def fetched(self, due: tuple[int, bytes, int], message: object) -> None:
        """One of them is here."""
        if self._fetching is not None and not self._fetching.left:
            self._fetching = None
        entry = due[0]
        if isinstance(message, bytes) and message:
            if not self._ledger.resume(entry, message):
                self._admit(entry, message)
            return
        # The claim is gone: another worker took this one for dead and restored it. It runs there.
        logger.warning(
            "A message that waited for its time is gone from %s (%r); another worker has it.", due[1], message
        )
        self._ledger.quit(entry)

    def lost(self) -> None:
        """The connection is gone: what had not arrived is asked for again."""
        if self._fetching is not None:
            self._again, self._fetching = self._fetching.left, None

    def abandon(self) -> list[int]:
        """Entries that are between waiting and being dealt, in the caller's hands."""
        entries = [entry for entry, _, _ in self._again]
        self._again = []
        return entries
