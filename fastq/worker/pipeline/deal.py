"""Decide how far ahead to work: how much to claim, how much to deal to each child, what to take back.

Celery holds `concurrency x prefetch_multiplier` messages, whatever they are: too few for short tasks, which then wait
for the broker, too many for long ones, which then wait behind each other. Here that number is what a worker holds of
tasks that take long; of tasks that are short it holds as many as it is going to start within HORIZON_S.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fastq import _core, clock
from fastq.program import ProgramInfo

#: Seconds of work to hold ahead. Long enough for a claim's round trip and a late wake-up on a busy machine; short
#: enough that a message never waits here noticeably while another worker is idle. Twice the broker's round trip comes
#: on top.
HORIZON_S = 0.020

#: Frames that a child may hold unstarted, however short its tasks are. Rings have room for about a thousand.
DEEPEST = 768

#: Seconds between two looks whether children hold less urgent tasks than those that have come since: taking all of them
#: back takes up to a millisecond.
PASS_S = 0.005

#: Share of a new measurement in the mean task time; a mean over about ten windows.
WEIGHT = 0.2


class Pace(msgspec.Struct):
    """How long tasks take, as measured from what children have finished."""

    mean_s: float = 0.0
    finished: int = 0
    spent_ns: int = 0

    def measure(self, finished: int, spent_ns: int) -> None:
        """Add a window: `finished` frames in all, in which `spent_ns` nanoseconds were spent in all."""
        done = finished - self.finished
        if done > 0 and spent_ns >= self.spent_ns:
            sample = (spent_ns - self.spent_ns) / done / 1e9
            self.mean_s = sample if not self.mean_s else self.mean_s + WEIGHT * (sample - self.mean_s)
        self.finished, self.spent_ns = finished, spent_ns


def look_ahead(mean_s: float, *, round_trip_s: float = 0.0) -> int:
    """How many tasks one child should hold unstarted; 0: they take so long that only idle children get one."""
    if not mean_s:
        return 1
    return min(DEEPEST, int((HORIZON_S + 2 * round_trip_s) / mean_s))


def most_held(ahead: int, *, children: int, free: int, multiplier: int) -> int:
    """How many messages to hold that have not been started: Celery's prefetch count, or more if they are short."""
    if multiplier == 0:
        return DEEPEST * max(1, children)
    return max(children * multiplier, 2 * ahead * free)


class Dealer:
    """Applies the policy to the ledger and its children."""

    def __init__(self, ledger: _core.Ledger, *, program: ProgramInfo) -> None:
        self.pace: Pace = Pace()
        self.round_trip_s: float = 0.0
        self._ledger = ledger
        self._disable_prefetch = program.disable_prefetch
        self.change(program)
        self._ahead = 1
        self._stuck: set[int] = set()
        self._measured_at = self._passed_at = 0.0

    def change(self, program: ProgramInfo) -> None:
        """The application was loaded (again)."""
        self.multiplier: int = program.prefetch_multiplier
        #: Tasks that a child may have in flight; 0: one at a time.
        self.coroutines: int = program.coroutines

    def deal(self, slots: Iterable[int]) -> int:
        """Measure, take back what is stuck or less urgent, deal. Returns how many messages found no child."""
        now = clock.monotonic()
        if now - self._measured_at >= 0.001:
            self._measured_at = now
            self._measure(slots)
        if self._ledger.passing and now - self._passed_at >= PASS_S:
            self._passed_at = now
            self._ledger.let_pass()
        return self._ledger.deal()

    def _measure(self, slots: Iterable[int]) -> None:
        finished, spent_ns, longest_ns = self._ledger.pace()
        self.pace.measure(finished, spent_ns)
        self._ahead = look_ahead(self.pace.mean_s / max(1, self.coroutines), round_trip_s=self.round_trip_s)
        if self.coroutines and self._disable_prefetch:
            self._ahead = 0
        self._ledger.set_depths(self._ahead)
        self._stuck.clear()
        if longest_ns > 2 * HORIZON_S * 1e9:
            self._unstick(slots)

    def _unstick(self, slots: Iterable[int]) -> None:
        # What waits behind a long task goes to others; nothing more is dealt there until it is over.
        for slot in slots:
            unstarted, running, age_ns = self._ledger.load(slot)
            if not running or age_ns < 2 * HORIZON_S * 1e9:
                continue
            self._stuck.add(slot)
            self._ledger.set_depth(slot, 0)
            if unstarted:
                self._ledger.recall(slot)

    @property
    def needs_watching(self) -> bool:
        """Whether something is dealt that may turn out to wait behind a long task."""
        return self._ledger.unstarted() > 0

    def credit(self, children: int, *, turns: int = 0) -> int:
        """How many messages may be claimed now; `turns` messages wait for their turn under a rate limit."""
        ledger = self._ledger
        held = ledger.pending + ledger.unstarted()
        if self.coroutines:
            # As many as may be in flight, and for the way from the broker as many more as are dealt ahead.
            return ledger.room() - ledger.pending + (0 if turns else self._ahead * children) - turns
        if self._disable_prefetch:
            return ledger.idle() - held
        # However short limited tasks are, they are not started soon: no looking ahead while some wait.
        ahead = 0 if turns else self._ahead
        held += turns
        most = most_held(ahead, children=children, free=children - len(self._stuck), multiplier=self.multiplier)
        if most - held <= children:
            held += ledger.running_late()
        return most - held
