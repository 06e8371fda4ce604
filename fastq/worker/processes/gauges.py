"""Measure children from outside: their own memory, and how much CPU time they want."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from fastq import clock
from fastq.config.groups import read
from fastq.config.memory import Process

#: Weight of a new sample of the CPU share: what was true two seconds ago hardly counts.
WEIGHT = 0.3

#: Seconds between two samples of CPU time: the kernel counts it in hundredths.
CPU_WINDOW_S = 0.1

#: Seconds between close looks at a child that is large and does not grow.
LOOK_AGAIN_S = 1.0


class Gauge(msgspec.Struct, kw_only=True):
    """One child's instruments and their last readings."""

    process: Process
    #: Its own memory in bytes, 0 before it was measured; the most it had.
    own_bytes: int = 0
    peak_bytes: int = 0
    wanted_cpu_s: float = 0.0
    #: A close look costs: not before it is larger than this, or this late.
    look_above_bytes: int = 0
    look_at_s: float = 0.0


class Gauges:
    """The instruments of all children, by slot."""

    def __init__(self) -> None:
        self._gauges: dict[int, Gauge] = {}
        self._turn = 0
        self._sampled_s = 0.0
        #: CPU time that a busy child wants, of one core; None before it was measured.
        self.cpu_share: float | None = None

    def follow(self, pids: dict[int, int]) -> None:
        """These children are there now: {slot: pid}."""
        for slot in [s for s, g in self._gauges.items() if pids.get(s) != g.process.pid]:
            self._gauges.pop(slot).process.close()
        for slot, pid in pids.items():
            if slot not in self._gauges and pid and (process := Process.open(pid)) is not None:
                self._gauges[slot] = Gauge(process=process, wanted_cpu_s=_wanted_cpu_s(process))

    def close(self) -> None:
        self.follow({})

    # Memory

    def own_bytes(self, slot: int) -> int:
        """A child's own memory when it was measured last; 0 if it never was."""
        gauge = self._gauges.get(slot)
        return gauge.own_bytes if gauge else 0

    def peak_bytes(self, slot: int) -> int:
        """The most of its own memory that was seen."""
        gauge = self._gauges.get(slot)
        return gauge.peak_bytes if gauge else 0

    def watch(self, slot: int, *, limit_bytes: int) -> int:
        """A child's own memory, measured as often as it must be not to miss a limit for long."""
        gauge = self._gauges.get(slot)
        if gauge is None:
            return 0
        resident, now = gauge.process.resident(), clock.monotonic()
        if resident <= limit_bytes:
            gauge.own_bytes = min(gauge.own_bytes, resident)
            return gauge.own_bytes
        if resident <= gauge.look_above_bytes and now <= gauge.look_at_s:
            return gauge.own_bytes
        own = self.measure(slot)
        # It cannot have reached the limit before it has grown by what is missing; pages it shared may become its own.
        gauge.look_above_bytes = resident + max(0, limit_bytes - own) // 2
        gauge.look_at_s = now + LOOK_AGAIN_S
        return own

    def measure(self, slot: int) -> int:
        """Measure a child's own memory now."""
        gauge = self._gauges.get(slot)
        if gauge is None:
            return 0
        gauge.own_bytes = gauge.process.own()
        gauge.peak_bytes = max(gauge.peak_bytes, gauge.own_bytes)
        return gauge.own_bytes

    def measure_one(self) -> None:
        """Measure the next child in turn."""
        slots = sorted(self._gauges)
        if slots:
            self._turn += 1
            self.measure(slots[self._turn % len(slots)])

    def cost_bytes(self, slots: Iterable[int], *, unknown: int) -> int:
        """What a child takes at work, to judge by these, which have worked: between their mean and their largest."""
        peaks = [gauge.peak_bytes for slot in slots if (gauge := self._gauges.get(slot)) and gauge.peak_bytes]
        return (sum(peaks) // len(peaks) + max(peaks)) // 2 if peaks else unknown

    def all_own_bytes(self) -> int:
        """The children's own memory together, as measured last."""
        return sum(gauge.own_bytes for gauge in self._gauges.values())

    # CPU

    def sample_cpu(self, busy: Iterable[int]) -> None:
        """Look at what busy children have used, or waited for, since the last look."""
        now, busy = clock.monotonic(), set(busy)
        took_s = now - self._sampled_s
        if took_s < CPU_WINDOW_S:
            return
        self._sampled_s = now
        all_shares = {slot: _share(gauge, took_s) for slot, gauge in self._gauges.items()}
        shares = [share for slot, share in all_shares.items() if share is not None and slot in busy]
        if shares:
            mean = min(1.0, sum(shares) / len(shares))
            before = mean if self.cpu_share is None else self.cpu_share
            self.cpu_share = before + WEIGHT * (mean - before)


def _share(gauge: Gauge, took_s: float) -> float | None:
    before, gauge.wanted_cpu_s = gauge.wanted_cpu_s, _wanted_cpu_s(gauge.process)
    return max(0.0, gauge.wanted_cpu_s - before) / took_s if took_s < 10 else None


def _wanted_cpu_s(process: Process) -> float:
    """CPU time used, and time spent ready to run while others did: more children would only make more of that."""
    waited = read(Path(f"/proc/{process.pid}/schedstat")).split()
    return process.cpu_s() + (int(waited[1]) / 1e9 if len(waited) == 3 else 0.0)
