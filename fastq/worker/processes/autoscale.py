"""Decide how many children there should be: from what is seen now and what was decided before, and nothing else.

Demand is what runs and what waits, weighed by how long it would wait. Above it stand three caps: the operator's, the
CPUs' (tasks that compute need no more children than cores; tasks that wait may have many), and the memory's. Growing is
immediate, and at most doubles; shrinking takes a while of less demand, so that a sawtooth does not fork all the time.
The picture of it is docs/operate/scaling.svg, drawn from the simulator in the tests.
"""

from __future__ import annotations

import math

import msgspec

#: Seconds a message may wait for a child before one more is worth it. A fork takes about a tenth of that.
PATIENCE_S = 0.2

#: Children forked at once where there are few; where there are many, they double.
STEP = 4

#: Share of the memory that is never planned for, and its least: the kernel starts to reclaim before all is gone.
RESERVE, LEAST_RESERVE = 0.05, 64 << 20

#: Percent of time in which something waited for memory (PSI, avg10): above the first nobody is added, above the second
#: somebody has to go. A machine with room shows 0; at 10 % requests feel it.
UNEASY, SHORT = 2.0, 10.0

#: Seconds between two children that leave for want of memory: the kernel's figures follow with a delay.
MEMORY_STEP_S = 2.0

#: A task's least share of a core, for the cap: 50 children a core is enough for anybody.
LEAST_SHARE = 0.02

#: A share above this is that of tasks that compute; what is missing is their starts and ends.
COMPUTES = 0.8


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator and the machine allow."""

    most: int
    least: int
    #: CPUs that may be used, quotas included: 1.5 is possible.
    cpus: float
    #: Seconds of less demand before children leave.
    keepalive_s: float = 30.0
    #: The number follows the machine only, not demand (`--concurrency auto`).
    steady: bool = False


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What is seen at one moment."""

    now_s: float
    #: That stay: ready or starting.
    children: int
    busy: int = 0
    #: Messages that wait for a child, as far as is known.
    waiting: int = 0
    #: How long a child needs for one of them.
    task_s: float = 0.0
    #: CPU time that a busy child wants, of one core: used, or waited for. None: not measured yet.
    cpu_share: float | None = None
    #: What a child takes at work, what all of them have now, and what there is.
    child_bytes: int = 32 << 20
    own_bytes: int = 0
    total_bytes: int = 0
    available_bytes: int = 0
    #: PSI of memory in percent; None where the kernel does not tell.
    pressure: float | None = None


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy remembers."""

    #: Since when there is less demand than children, and the most there was since then.
    low_since_s: float | None = None
    peak: int = 0
    #: What it was decided to shrink to, until that many are left.
    down_to: int | None = None
    #: When a child left for want of memory.
    pressed_s: float | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """How many children, why, and what to remember."""

    target: int
    why: str
    past: Past


def decide(seen: Observation, past: Past, bounds: Bounds) -> Decision:
    """The number of children from now on. Never below `least`, never above `most`."""
    caps = _caps(seen, bounds)
    demand = bounds.most if bounds.steady else demanded(seen)
    cap, whose = min((caps[name], name) for name in caps)
    want = max(bounds.least, min(demand, cap))
    capped = f"the {whose} allows no more" if demand > cap else ""
    if caps["memory"] < seen.children and not bounds.least >= seen.children:
        return _give_memory_back(seen, past, bounds, cap=caps["memory"])
    if want > seen.children:
        return _grow(seen, past, bounds, want=want, why=capped or _why(seen, bounds))
    if want == seen.children:
        return Decision(target=want, why="", past=Past(pressed_s=past.pressed_s))
    return _shrink(seen, past, bounds, want=want, why=capped or "less to do")


def demanded(seen: Observation) -> int:
    """Children that would let nothing wait longer than PATIENCE_S."""
    return seen.busy + math.ceil(seen.waiting * min(1.0, seen.task_s / PATIENCE_S))


def _caps(seen: Observation, bounds: Bounds) -> dict[str, int]:
    return {
        "limit": bounds.most,
        "CPU": bounds.most if bounds.steady else cpu_cap(seen, cpus=bounds.cpus),
        "memory": memory_cap(seen),
    }


def cpu_cap(seen: Observation, *, cpus: float) -> int:
    """Children that keep all CPUs busy; no more than cores, until it is known how much the tasks compute."""
    share = 1.0 if seen.cpu_share is None or seen.cpu_share > COMPUTES else max(LEAST_SHARE, seen.cpu_share)
    return max(math.ceil(cpus), math.ceil(cpus / share - 0.5))


def memory_cap(seen: Observation) -> int:
    """Children that there is memory for, those that are there included."""
    pressure = seen.pressure or 0.0
    reserve = max(LEAST_RESERVE, int(RESERVE * seen.total_bytes))
    # Children that are idle, or new, will take what the others take.
    still_to_come = max(0, seen.children * seen.child_bytes - seen.own_bytes)
    more = math.floor((seen.available_bytes - reserve - still_to_come) / max(1, seen.child_bytes))
    if pressure >= SHORT:
        more = min(more, -1)
    elif pressure >= UNEASY:
        more = min(more, 0)
    # Within the reserve nobody has to go: it is there to be used by those who are here.
    if more < 0 and pressure < SHORT and seen.available_bytes > reserve // 2:
        more = 0
    return seen.children + more


def _why(seen: Observation, bounds: Bounds) -> str:
    return "the machine allows" if bounds.steady else f"{seen.waiting} wait, {seen.busy} run"


def _grow(seen: Observation, past: Past, bounds: Bounds, *, want: int, why: str) -> Decision:
    if past.pressed_s is not None and seen.now_s - past.pressed_s < bounds.keepalive_s:
        return Decision(target=seen.children, why="", past=Past(pressed_s=past.pressed_s))
    step = seen.children + max(STEP, seen.children)
    return Decision(target=max(bounds.least, min(want, step)), why=why, past=Past())


def _give_memory_back(seen: Observation, past: Past, bounds: Bounds, *, cap: int) -> Decision:
    if past.pressed_s is not None and seen.now_s - past.pressed_s < MEMORY_STEP_S:
        still = seen.children if past.down_to is None else min(seen.children, past.down_to)
        return Decision(target=max(bounds.least, still), why="", past=past)
    target = max(bounds.least, cap, seen.children - max(1, seen.children // 4))
    free = f"{seen.available_bytes >> 20} MiB are left, a child takes {seen.child_bytes >> 20}"
    why = free if not seen.pressure else f"{free}, memory pressure {seen.pressure:g} %"
    return Decision(target=target, why=why, past=Past(pressed_s=seen.now_s, down_to=target))


def _shrink(seen: Observation, past: Past, bounds: Bounds, *, want: int, why: str) -> Decision:
    if past.down_to is not None and want <= past.down_to < seen.children:
        return Decision(target=past.down_to, why="", past=past)
    since = seen.now_s if past.low_since_s is None else past.low_since_s
    peak = want if past.low_since_s is None else max(past.peak, want)
    if seen.now_s - since < bounds.keepalive_s:
        kept = Past(low_since_s=since, peak=peak, pressed_s=past.pressed_s)
        return Decision(target=seen.children, why="", past=kept)
    target = min(peak, seen.children)
    again = Past(low_since_s=seen.now_s, peak=want, down_to=target, pressed_s=past.pressed_s)
    return Decision(target=target, why=why if target < seen.children else "", past=again)
