"""Hold tasks to their time limits. Each wake-up is for a limit that may have been reached; none is spent on looking."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastq import _core, clock
from fastq.program import Verdict
from fastq.worker.poll import Timers
from fastq.worker.processes.children import Children
from fastq.worker.processes.running import message

logger: logging.Logger = logging.getLogger(__name__)


#: Seconds between looks at the tasks of an event loop, and those that it may be late with a hard limit.
LOOP_LOOK_S, LOOP_GRACE_S = 0.5, 2.0


class TimeLimits:
    """Interrupts tasks at their soft limit, kills their child at the hard one."""

    def __init__(
        self,
        ledger: _core.Ledger,
        *,
        children: Children,
        timers: Timers,
        expired: Callable[[int, Verdict], None],
        name: Callable[[bytes], str],
    ) -> None:
        self._ledger, self._children, self._timers = ledger, children, timers
        self._expired, self._name_message = expired, name
        #: By slot: when the tasks of an event loop were looked at last.
        self._looked_s: dict[int, float] = {}
        self._interrupted: dict[int, int] = {}
        self._killed: dict[int, int] = {}

    def pump(self) -> None:
        """Look whether a limit is reached; set the timer for the next that can be."""
        if not self._ledger.limited:
            return
        waits = [wait for slot in self._children.slots if (wait := self._look(slot)) is not None]
        if waits:
            self._timers.sooner("time-limits", max(0.001, min(waits)), self.pump)

    def _look(self, slot: int) -> float | None:
        """Seconds until this child's next limit; None if it runs nothing that has one."""
        if self._children.berths(slot):
            return self._look_at_loop(slot)
        running = self._ledger.running(slot)
        if running is None:
            # What is dealt behind may start right now; its limit cannot be over before the shortest there is.
            return self._ledger.shortest_limit if self._ledger.load(slot)[0] else None
        number, _entry, kind, task, soft_s, hard_s, began_ns = running
        if kind != _core.TASK:
            return None
        ran_s = (clock.monotonic_ns() - began_ns) / 1e9
        behind = self._ledger.shortest_limit if self._ledger.load(slot)[0] else None
        waits = [self._hard(slot, number, task, hard_s, ran_s), self._soft(slot, number, soft_s, ran_s), behind]
        return min((wait for wait in waits if wait is not None), default=None)

    def _look_at_loop(self, slot: int) -> float:
        """An event loop holds its tasks to their limits itself. If it does not, it is stuck, and is ended."""
        now_s = clock.monotonic()
        if now_s - self._looked_s.get(slot, 0.0) < LOOP_LOOK_S or self._killed.get(slot) == self._children.pid(slot):
            return LOOP_LOOK_S
        self._looked_s[slot] = now_s
        limit_s, late = 0.0, set()
        for _number, _entry, kind, _task, _soft_s, hard_s, began_ns in self._ledger.all_running(slot):
            if hard_s and kind == _core.TASK and (clock.monotonic_ns() - began_ns) / 1e9 > hard_s + LOOP_GRACE_S:
                limit_s = hard_s
                late.add(began_ns)
        if late:
            pid = self._killed[slot] = self._children.pid(slot)
            logger.error("The event loop of pid:%d is stuck: %d tasks are beyond their time limit.", pid, len(late))
            reason = f"Hard time limit ({limit_s:g}s) exceeded."
            verdict = Verdict(kind="timeout", reason=reason, limit_s=limit_s, started=True, pid=pid)
            self._children.kill(slot, verdict, guilty=frozenset(late))
        return LOOP_LOOK_S

    def _soft(self, slot: int, number: int, limit_s: float, ran_s: float) -> float | None:
        if not limit_s or self._interrupted.get(slot) == number + 1:
            return None
        if ran_s < limit_s:
            return limit_s - ran_s
        self._interrupted[slot] = number + 1
        logger.warning("Soft time limit (%gs) exceeded for %s", limit_s, self.name(slot, number))
        self._ledger.aim_soft_limit(slot, number)
        self._children.interrupt(slot)
        return None

    def name(self, slot: int, number: int) -> str:
        """What a log calls the message of this frame, which a child runs."""
        flags, payload = self._ledger.running_payload(slot, number)
        return self._name_message(message(flags, payload))

    def _hard(self, slot: int, number: int, task: int, limit_s: float, ran_s: float) -> float | None:
        if not limit_s or self._killed.get(slot) == self._children.pid(slot):
            return None
        if ran_s < limit_s:
            return limit_s - ran_s
        pid = self._killed[slot] = self._children.pid(slot)
        reason = f"Hard time limit ({limit_s:g}s) exceeded."
        self._expired(slot, Verdict(kind="timeout", reason=reason, limit_s=limit_s, started=True, pid=pid, task=task))
        return None
