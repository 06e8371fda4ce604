"""Carry out the policy of autoscaling: look, decide, fork or send away, and say why in one line."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence

import msgspec

from fastq import _core, clock
from fastq.config import memory
from fastq.config.cpus import allowed_cpus, auto_concurrency, cpu_quota, usable_cpus
from fastq.config.settings import WorkerOptions
from fastq.config.values import AUTO
from fastq.program import ProgramInfo
from fastq.worker.pipeline.deal import Pace
from fastq.worker.poll import Timers
from fastq.worker.processes.autoscale import Bounds, Decision, Observation, Past, decide
from fastq.worker.processes.children import Children
from fastq.worker.processes.gauges import Gauges

logger: logging.Logger = logging.getLogger(__name__)

#: Seconds between decisions: while messages wait, while something runs, and else.
HURRY_S, WORK_S, IDLE_S = 0.1, 0.5, 1.0

#: Seconds between two looks at the machine, where only that decides, and at memory, which costs system calls.
MACHINE_S, MEMORY_S = 5.0, 0.5

#: What a child is taken to need before one has worked: this share of the nursery, and at least so much.
FIRST_SHARE, FIRST_LEAST = 0.3, 16 << 20

#: Children that `--autoscale=auto` may have for each core, when their tasks only wait.
MOST_PER_CPU = 10

#: Celery's variable, in seconds.
KEEPALIVE = "AUTOSCALE_KEEPALIVE"

_MIB = 1 << 20


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator asked for."""

    concurrency: int
    #: `--concurrency auto`.
    auto: bool = False
    #: `--autoscale`: (most, least), or `auto`.
    autoscale: tuple[int, int] | str | None = None

    @classmethod
    def of(cls, program: ProgramInfo, options: WorkerOptions) -> Wish:
        """The options, over the application's settings."""
        auto = options.concurrency == AUTO or (options.concurrency is None and program.concurrency_auto)
        return cls(concurrency=program.concurrency, auto=auto, autoscale=options.autoscale)


class Scaler:
    """Keeps the number of children. With a fixed one, it does so once."""

    def __init__(
        self,
        wish: Wish,
        *,
        ledger: _core.Ledger,
        children: Children,
        gauges: Gauges,
        timers: Timers,
        pace: Pace,
        backlog: Callable[[], Sequence[int]],
        nursery_pid: Callable[[], int],
    ) -> None:
        self.wish: Wish = wish
        self._ledger, self._children, self._gauges, self._timers = ledger, children, gauges, timers
        self._pace, self._backlog, self._nursery_pid = pace, backlog, nursery_pid
        self._past = Past()
        self._bounds: Bounds | None = None
        self._bounds_s = self._room_s = -math.inf
        self._room, self._pressure = memory.Room(total=0, available=0), memory.pressure()
        self._started, self._stuck_since_s = 0, 0.0

    @property
    def on(self) -> bool:
        return self.wish.auto or self.wish.autoscale is not None

    def start(self) -> None:
        """Have the first children."""
        if not self.on:
            self._children.keep(self.wish.concurrency)
            self._timers.cancel("autoscale")
            return
        bounds = self.bounds()
        first = bounds.most if bounds.steady else bounds.least
        cap = self._first_cap(first)
        self._children.keep(max(bounds.least, min(first, cap)))
        logger.info("Children: %d. %s", self._children.wanted, self._describe(bounds, cap))
        self._timers.set("autoscale", HURRY_S, self._look)

    def change(self, wish: Wish) -> None:
        """Another wish from now on, for an application that was loaded again. What was learnt is kept."""
        if wish != self.wish:
            self.wish, self._bounds_s = wish, -math.inf
            self.start()

    def nudge(self) -> None:
        """Messages wait: do not sleep on."""
        self._timers.sooner("autoscale", HURRY_S, self._look)

    def limits(self, most: int | None = None, least: int | None = None) -> tuple[int, int]:
        """Change the bounds while running, as the remote command `autoscale`; what they are now: (most, least)."""
        bounds = self.bounds()
        most = max(1, bounds.most if most is None else most)
        least = min(most, bounds.least if least is None else least)
        self.wish = msgspec.structs.replace(self.wish, autoscale=(most, least), auto=False)
        self._bounds_s, self._past = -math.inf, Past()
        if not least <= self._children.wanted <= most:
            self._change(max(least, min(most, self._children.wanted)), "the bounds were changed")
        self._timers.sooner("autoscale", HURRY_S, self._look)
        return most, least

    def info(self) -> dict[str, int]:
        """What `inspect stats` shows of an autoscaler."""
        bounds = self.bounds()
        qty = self._ledger.busy() + self._ledger.pending
        return {"max": bounds.most, "min": bounds.least, "current": self._children.ready, "qty": qty}

    # What is allowed

    def bounds(self) -> Bounds:
        """The operator's and the machine's, looked at again every few seconds."""
        now = clock.monotonic()
        if self._bounds is None or now - self._bounds_s > MACHINE_S:
            self._bounds, self._bounds_s = self._find_bounds(), now
        return self._bounds

    def _find_bounds(self) -> Bounds:
        keepalive_s, cpus = _keepalive_s(), usable_cpus()
        scale = self.wish.autoscale
        if isinstance(scale, tuple):
            # With no child at all nothing would be claimed, and so nothing be known of what waits.
            return Bounds(most=max(1, scale[0]), least=max(1, scale[1]), cpus=cpus, keepalive_s=keepalive_s)
        if scale is not None:
            most = min(self._children.most, math.ceil(cpus) * MOST_PER_CPU)
            return Bounds(most=most, least=1, cpus=cpus, keepalive_s=keepalive_s)
        if self.wish.auto:
            return Bounds(most=auto_concurrency(), least=1, cpus=cpus, keepalive_s=keepalive_s, steady=True)
        return Bounds(most=self.wish.concurrency, least=self.wish.concurrency, cpus=cpus, keepalive_s=keepalive_s)

    def _unknown_cost(self) -> int:
        nursery = memory.Process.open(self._nursery_pid())
        if nursery is None:
            return FIRST_LEAST
        try:
            return max(FIRST_LEAST, int(FIRST_SHARE * nursery.resident()))
        finally:
            nursery.close()

    def _first_cap(self, count: int) -> int:
        self._look_at_memory(clock.monotonic())
        return max(1, min(count, int(0.9 * self._room.available) // self._unknown_cost()))

    def _describe(self, bounds: Bounds, cap: int) -> str:
        quota = cpu_quota()
        cpus = f"{allowed_cpus()} CPUs allowed" + (f", quota {quota:g}" if quota is not None else "")
        room = f"{self._room.available // _MIB} MiB of memory available ({self._room.bound})"
        cost = f"about {self._unknown_cost() // _MIB} MiB expected for each"
        what = "concurrency auto" if bounds.steady else f"autoscale {bounds.least} to {bounds.most}"
        short = "; fewer than CPUs, for want of memory" if bounds.steady and cap < bounds.most else ""
        return f"{what}: {cpus}; {room}, {cost}{short}"

    # Looking and deciding

    def _look(self) -> None:
        now = clock.monotonic()
        seen, bounds = self.observe(now), self.bounds()
        decision = decide(seen, self._past, bounds)
        self._past = decision.past
        self._obey(decision)
        if bounds.steady:
            wait_s = MACHINE_S
        else:
            wait_s = HURRY_S if seen.waiting else WORK_S if seen.busy else IDLE_S
        self._timers.set("autoscale", wait_s, self._look)

    def observe(self, now: float) -> Observation:
        """What is to be seen now."""
        living = [child for child in self._children.living() if child.pid]
        self._gauges.follow({child.slot: child.pid for child in living})
        loads = {child.slot: self._ledger.load(child.slot) for child in living}
        busy = [slot for slot, (_unstarted, running, _age) in loads.items() if running]
        self._gauges.sample_cpu(busy)
        self._look_at_memory(now)
        worked = [child.slot for child in living if self._ledger.executed(child.slot) or loads[child.slot][1]]
        waiting = self._ledger.pending + self._ledger.unstarted() + sum(max(0, n) for n in self._backlog())
        return Observation(
            now_s=now,
            children=self._children.wanted,
            busy=len(busy),
            waiting=waiting,
            task_s=max(self._pace.mean_s, self._stuck_s(now, waiting)),
            cpu_share=self._gauges.cpu_share,
            child_bytes=self._gauges.cost_bytes(worked, unknown=self._unknown_cost()),
            own_bytes=self._gauges.all_own_bytes(),
            total_bytes=self._room.total,
            available_bytes=self._room.available,
            pressure=self._pressure,
        )

    def _stuck_s(self, now: float, waiting: int) -> float:
        """For how long nothing has been started although messages wait: what a child takes, at least."""
        if self._ledger.started != self._started or not waiting:
            self._started, self._stuck_since_s = self._ledger.started, now
        return now - self._stuck_since_s

    def _look_at_memory(self, now: float) -> None:
        if now - self._room_s >= MEMORY_S:
            self._room_s = now
            self._room, self._pressure = memory.room(), memory.pressure()
            self._gauges.measure_one()

    def _obey(self, decision: Decision) -> None:
        if decision.target != self._children.wanted:
            self._change(decision.target, decision.why)

    def _change(self, target: int, why: str) -> None:
        before = self._children.wanted
        self._children.keep(target)
        if before != target:
            logger.info("Children: %d instead of %d: %s", target, before, why or "the load has changed")


def _keepalive_s() -> float:
    try:
        return max(0.1, float(os.environ.get(KEEPALIVE) or 30.0))
    except ValueError:
        return 30.0
