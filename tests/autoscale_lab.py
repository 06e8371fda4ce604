"""A machine that exists in numbers only: cores, memory, children and tasks, for the policy of autoscaling to run on."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fastq.worker.processes.autoscale import Bounds, Decision, Observation, Past, decide

MIB = 1 << 20

#: Seconds of one step of the simulation, and between two decisions.
STEP_S = 0.05
DECIDE_S = 0.1

#: Seconds from a fork to a child that runs tasks.
BOOT_S = 0.1


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What one task does: compute, and wait; the memory it takes, and what it leaves behind."""

    cpu_s: float = 0.0
    wait_s: float = 0.0
    bytes: int = 0
    leak_bytes: int = 0


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it runs."""

    cores: int = 4
    memory: int = 8192 * MIB
    child: int = 40 * MIB


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One moment, as the picture shows it."""

    at_s: float
    queue: int
    busy: int
    children: int
    free_bytes: int
    wait_s: float
    target: int


class _Child:
    def __init__(self, born_s: float) -> None:
        self.born_s, self.cpu_left_s, self.wait_left_s = born_s, 0.0, 0.0
        self.task: Work | None = None
        self.leaked = 0
        self.peak = 0


class Simulation:
    """Runs a load on a machine under the policy. `arrivals(t)` are the tasks of the step that begins at t."""

    def __init__(
        self,
        arrivals: Callable[[float], list[Work]],
        *,
        bounds: Bounds,
        machine: Machine | None = None,
        neighbour: Callable[[float], int] = lambda _t: 0,
        has_pressure: bool = True,
        recycle_bytes: int = 0,
    ) -> None:
        self.arrivals, self.bounds, self.neighbour = arrivals, bounds, neighbour
        self.machine = machine or Machine()
        self.has_pressure, self.recycle_bytes = has_pressure, recycle_bytes
        self.now_s = 0.0
        self.children = [_Child(-BOOT_S) for _ in range(bounds.least)]
        self.queue: list[tuple[float, Work]] = []
        self.past = Past()
        self.points: list[Point] = []
        self.done = self.forks = self.left = 0
        self._share: float | None = None
        self._service_s = 0.0
        self._started_s = 0.0
        self._target = bounds.least

    def run(self, until_s: float) -> Simulation:
        while self.now_s < until_s:
            self._step()
        return self

    # The machine

    def _step(self) -> None:
        self.queue += [(self.now_s, work) for work in self.arrivals(self.now_s)]
        self._start()
        self._advance()
        self.now_s = round(self.now_s + STEP_S, 6)
        if round(self.now_s / STEP_S) % round(DECIDE_S / STEP_S) == 0:
            self._decide()
        self._note()

    def _start(self) -> None:
        free = [child for child in self._ready() if child.task is None]
        for child in free[max(0, len(self.children) - self._target) :]:  # what is too many gets nothing more
            if self.queue:
                _at, child.task = self.queue.pop(0)
                child.cpu_left_s, child.wait_left_s = child.task.cpu_s, child.task.wait_s
                child.peak = max(child.peak, self.machine.child + child.leaked + child.task.bytes)
                self._started_s = self.now_s

    def _ready(self) -> list[_Child]:
        return [child for child in self.children if self.now_s - child.born_s >= BOOT_S]

    def _advance(self) -> None:
        busy = [child for child in self.children if child.task is not None]
        computing = [child for child in busy if child.cpu_left_s > 0]
        speed = min(1.0, self.machine.cores / len(computing)) if computing else 1.0
        wanted = [min(STEP_S, c.cpu_left_s / speed) if c.cpu_left_s > 0 else 0.0 for c in busy]
        if busy:
            share = sum(wanted) / STEP_S / len(busy)
            self._share = share if self._share is None else self._share + 0.3 * (share - self._share)
        for child in busy:
            self._progress(child, speed)

    def _progress(self, child: _Child, speed: float) -> None:
        assert child.task is not None
        if child.cpu_left_s > 0:
            child.cpu_left_s -= STEP_S * speed
        else:
            child.wait_left_s -= STEP_S
        if child.cpu_left_s <= 1e-9 and child.wait_left_s <= 1e-9:
            took = child.task.cpu_s + child.task.wait_s
            self._service_s += 0.2 * (took - self._service_s) if self._service_s else took
            child.leaked += child.task.leak_bytes
            child.task = None
            self.done += 1
            if self.recycle_bytes and child.leaked > self.recycle_bytes:
                child.born_s, child.leaked, child.peak = self.now_s, 0, 0

    @property
    def used_bytes(self) -> int:
        own = sum(self.machine.child + c.leaked + (c.task.bytes if c.task else 0) for c in self.children)
        return own + self.neighbour(self.now_s)

    @property
    def free_bytes(self) -> int:
        return self.machine.memory - self.used_bytes

    # The policy

    def observe(self) -> Observation:
        busy = [child for child in self.children if child.task is not None]
        own = [self.machine.child + c.leaked + (c.task.bytes if c.task else 0) for c in self._ready()]
        peaks = [c.peak for c in self._ready() if c.peak]
        stuck_s = self.now_s - self._started_s if self.queue else 0.0
        free = max(0, self.free_bytes)
        tight = max(0.0, 1 - free / (0.03 * self.machine.memory)) * 40
        return Observation(
            now_s=self.now_s,
            children=len(self.children),
            busy=len(busy),
            waiting=len(self.queue),
            task_s=max(self._service_s, stuck_s),
            cpu_share=self._share,
            child_bytes=(sum(peaks) // len(peaks) + max(peaks)) // 2 if peaks else self.machine.child,
            own_bytes=sum(own),
            total_bytes=self.machine.memory,
            available_bytes=free,
            pressure=tight if self.has_pressure else None,
        )

    def _decide(self) -> None:
        decision = decide(self.observe(), self.past, self.bounds)
        self.past, self._target = decision.past, decision.target
        self._obey(decision)

    def _obey(self, decision: Decision) -> None:
        assert self.bounds.least <= decision.target <= self.bounds.most, decision
        while len(self.children) < decision.target:
            self.children.append(_Child(self.now_s))
            self.forks += 1
        for child in [c for c in self.children if c.task is None]:
            if len(self.children) > decision.target:
                self.children.remove(child)
                self.left += 1

    def _note(self) -> None:
        oldest = self.now_s - self.queue[0][0] if self.queue else 0.0
        self.points.append(
            Point(
                at_s=self.now_s,
                queue=len(self.queue),
                busy=sum(c.task is not None for c in self.children),
                children=len(self.children),
                free_bytes=self.free_bytes,
                wait_s=oldest,
                target=self._target,
            )
        )

    # What tests ask

    def most_children(self, *, after_s: float = 0.0, before_s: float = 1e9) -> int:
        return max(p.children for p in self.points if after_s <= p.at_s <= before_s)

    def least_free(self) -> int:
        return min(p.free_bytes for p in self.points)

    def at(self, at_s: float) -> Point:
        return next(p for p in self.points if p.at_s >= at_s)


def every(
    period_s: float, work: Work, *, count: int = 1, start_s: float = 0.0, until_s: float = 1e9
) -> Callable[[float], list[Work]]:
    """`count` tasks each `period_s` seconds."""

    def arrivals(now_s: float) -> list[Work]:
        steps, period = round((now_s - start_s) / STEP_S), round(period_s / STEP_S)
        return [work] * count if start_s <= now_s < until_s and steps % period == 0 else []

    return arrivals


def at_once(at_s: float, work: Work, *, count: int) -> Callable[[float], list[Work]]:
    """All of them in one step."""
    return lambda now_s: [work] * count if abs(now_s - at_s) < STEP_S / 2 else []


def together(*loads: Callable[[float], list[Work]]) -> Callable[[float], list[Work]]:
    """Several loads at a time."""
    return lambda now_s: [work for load in loads for work in load(now_s)]
