"""Replace children before they cost too much: after so many tasks, at an age, or when they have grown.

A child that is to go is replaced first: another is forked, gets ready, and waits; when the old one is through with its
task, it takes over. So there are never fewer children at work, and never more. Memory is a child's own: what it shares
with the nursery and its siblings would not be free without it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import msgspec

from fastq import _core, clock
from fastq.config.settings import WorkerOptions
from fastq.errors import SettingError
from fastq.program import ProgramInfo, Verdict
from fastq.worker.pipeline.deal import Pace
from fastq.worker.poll import Timers
from fastq.worker.processes.children import Child, Children
from fastq.worker.processes.gauges import Gauges

logger: logging.Logger = logging.getLogger(__name__)

#: Seconds between looks while something runs, and while nothing does. A task that takes 1 GiB a second is seen within
#: 100 MiB of the limit.
LOOK_S, IDLE_LOOK_S = 0.1, 1.0

#: Share of a limit by which children differ, downwards, so that they do not leave together.
JITTER = 0.1

#: Seconds a new child needs to get ready, on a busy machine: so long before the last task it is forked.
BOOT_S = 0.25

#: Seconds that a task has after MemoryLimitExceeded was raised in it, and fewer if it is this far beyond the limit.
GRACE_S, SHORT_GRACE_S, BEYOND = 1.0, 0.3, 1.25

_MIB = 1 << 20


class ChildLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator set; None and 0 for no limit."""

    tasks: int | None = None
    soft_bytes: int = 0
    hard_bytes: int = 0
    age_s: float = 0.0

    @property
    def least_bytes(self) -> int:
        """Memory above which a child is replaced after its task: the soft limit, or else the hard one."""
        return min((limit for limit in (self.soft_bytes, self.hard_bytes) if limit), default=0)

    @property
    def any(self) -> bool:
        return bool(self.tasks or self.least_bytes or self.age_s)

    @classmethod
    def of(cls, program: ProgramInfo, options: WorkerOptions) -> ChildLimits:
        """Options stand in the program already, where Celery has a setting of the same meaning."""
        return cls(
            tasks=program.max_tasks_per_child,
            soft_bytes=(program.max_memory_per_child_kib or 0) << 10,
            hard_bytes=(options.max_memory_hard or 0) << 10,
            age_s=options.max_age_per_child or 0.0,
        )


def jittered(limit: int, chance: float) -> int:
    """A limit of tasks for one child: at most `limit`, and up to a tenth less. `chance` is in [0, 1)."""
    return limit - int((math.floor(limit * JITTER) + 1) * chance)


def too_old(child_age_s: float, limit_s: float, *, slot: int) -> bool:
    """Whether a child's time is over. Slots differ, so that children that were forked together do not leave so."""
    return bool(limit_s) and child_age_s >= limit_s * (1 - JITTER * (slot % 8) / 8)


def nearly_done(executed: int, limit: int | None, *, running: bool, task_s: float) -> bool:
    """Whether a child will have run its number of tasks before another could be ready."""
    if not limit:
        return False
    left = limit - executed
    if left <= 1:
        return running or executed >= limit
    return executed > 0 and left * task_s <= BOOT_S and left <= limit * JITTER


class Recycler:
    """Holds children to their limits. Costs nothing where there are none."""

    def __init__(
        self,
        limits: ChildLimits,
        *,
        ledger: _core.Ledger,
        children: Children,
        gauges: Gauges,
        timers: Timers,
        pace: Pace,
        name: Callable[[int, int], str],
        failed: Callable[[SettingError], None],
    ) -> None:
        self.limits: ChildLimits = limits
        self._ledger, self._children, self._gauges, self._timers = ledger, children, gauges, timers
        self._pace, self._name, self._failed = pace, name, failed
        self._approved = not limits.least_bytes
        #: By slot: the process and its frame that were told that their memory is over, and when.
        self._told: dict[int, tuple[tuple[int, int], float]] = {}
        self._killed: dict[int, int] = {}
        self._early = 0

    def start(self) -> None:
        if self.limits.any:
            self._look()

    def change(self, limits: ChildLimits) -> None:
        """Other limits from now on, for an application that was loaded again."""
        self.limits = limits
        self._approved = not limits.least_bytes
        self.start()

    def max_tasks(self) -> int | None:
        """After how many tasks the next child leaves."""
        return jittered(self.limits.tasks, clock.random_fraction()) if self.limits.tasks else None

    # Before the first task

    def approves(self) -> bool:
        """Whether children may get tasks: not before it is known that they are smaller than their limit."""
        if self._approved:
            return True
        for child in self._children.living():
            if child.pid and self._children.state(child.slot) == _core.READY:
                self._approve(child)
                break
        return self._approved

    def _approve(self, child: Child) -> None:
        self._gauges.follow({child.slot: child.pid})
        base, limit = self._gauges.measure(child.slot), self.limits.least_bytes
        self._approved = base < limit
        if not self._approved:
            which = "--max-memory-per-child" if limit == self.limits.soft_bytes else "--max-memory-hard"
            error = SettingError(
                f"{which} is {limit >> 10} KiB, and a child of this application has {base >> 10} KiB of its own before "
                f"its first task: every child would be replaced at once. Set it to {2 * base >> 10} or more"
            )
            # Not now: whoever asks is in the middle of sending.
            self._timers.set("refuse", 0.0, lambda: self._failed(error))
        elif base > limit / 2:
            logger.warning("Children have %s of their own when they start; the limit is %s", _mib(base), _mib(limit))

    # Looking

    def _look(self) -> None:
        living = self._children.living()
        self._gauges.follow({child.slot: child.pid for child in living if child.pid})
        for child in living:
            self._judge(child)
        self._children.relieve()
        self._timers.set("recycle", LOOK_S if self._ledger.busy() else IDLE_LOOK_S, self._look)

    def nudge(self) -> None:
        """Something runs: do not sleep on."""
        self._timers.sooner("recycle", LOOK_S, self._look)

    def _judge(self, child: Child) -> None:
        self._limit_memory(child)
        if child.relieved or child.dismissed or child.benched:
            return
        executed, (_, running, _age) = self._ledger.executed(child.slot), self._ledger.load(child.slot)
        if nearly_done(executed, child.max_tasks, running=running, task_s=self._pace.mean_s):
            self._children.replace(child.slot)
        if too_old(clock.monotonic() - child.born_s, self.limits.age_s, slot=child.slot):
            self._retire(child, f"it is older than --max-age-per-child ({self.limits.age_s:g} s)")
        least = self.limits.least_bytes
        if least and self._gauges.own_bytes(child.slot) > least and (executed or running):
            self._retire(child, f"it has {_mib(self._gauges.own_bytes(child.slot))} of its own, {self._limit_text()}")
            self._notice_loops(executed)

    def _limit_text(self) -> str:
        if self.limits.soft_bytes:
            return f"--max-memory-per-child is {_mib(self.limits.soft_bytes)}"
        return f"--max-memory-hard is {_mib(self.limits.hard_bytes)}"

    def _retire(self, child: Child, why: str) -> None:
        logger.info("Child %d pid:%d will be replaced: %s", child.slot + 1, child.pid, why)
        self._children.replace(child.slot)

    def _notice_loops(self, executed: int) -> None:
        self._early = self._early + 1 if executed <= 1 else 0
        if self._early == 10:
            logger.warning("Ten children in a row had grown over their memory limit with their first task: raise it.")

    # Memory

    def _limit_memory(self, child: Child) -> None:
        if not self.limits.least_bytes:
            return
        own, hard = self._gauges.watch(child.slot, limit_bytes=self.limits.least_bytes), self.limits.hard_bytes
        if not hard or own <= hard or (own := self._gauges.measure(child.slot)) <= hard:
            return
        if child.berths:
            self._end_over_memory(child, own)
            return
        running = self._ledger.running(child.slot)
        if running is not None and running[2] == _core.TASK:
            self._enforce(child, own, number=running[0], task=running[3])

    def _enforce(self, child: Child, own: int, *, number: int, task: int) -> None:
        """The hard limit: an exception in the task, then the end of its child."""
        slot, now, hard = child.slot, clock.monotonic(), self.limits.hard_bytes
        told, at = self._told.get(slot, ((0, 0), 0.0))
        if self._killed.get(slot) == child.pid:
            return
        if told != (child.pid, number):
            self._told[slot] = ((child.pid, number), now)
            logger.warning(
                "Memory limit (%s) exceeded for %s: it has %s", _mib(hard), self._name(slot, number), _mib(own)
            )
            self._ledger.aim_memory_limit(slot, number)
            self._children.interrupt(slot)
        elif now - at > GRACE_S or (now - at > SHORT_GRACE_S and own > hard * BEYOND):
            self._end_over_memory(child, own, task=task)

    def _end_over_memory(self, child: Child, own: int, *, task: int | None = None) -> None:
        """Kill it. Which of several tasks in flight has taken the memory cannot be known."""
        if self._killed.get(child.slot) == child.pid:
            return
        self._killed[child.slot] = child.pid
        limit_kib = self.limits.hard_bytes >> 10
        reason = f"Worker exceeded its memory limit: it had {own >> 10} KiB, --max-memory-hard is {limit_kib} KiB."
        verdict = Verdict(kind="lost", reason=reason, started=True, pid=child.pid, task=task)
        self._children.kill(child.slot, verdict)


def _mib(count: int) -> str:
    return f"{count / _MIB:.1f} MiB"
