"""What was measured: one value a round, for a measure of a system on a workload; and the file that is kept of it."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec

#: Of the results file. Another one means that a field has another meaning; older files are not read any more.
FORMAT = 2

Better = Literal["higher", "lower"]


class Roles(msgspec.Struct, frozen=True, kw_only=True):
    """One number for each role: the worker's main process, what forks its children, the children, the server."""

    engine: float = 0.0
    nursery: float = 0.0
    children: float = 0.0
    redis: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.engine + self.nursery + self.children + self.redis

    def __sub__(self, other: Roles) -> Roles:
        return Roles(**{name: getattr(self, name) - getattr(other, name) for name in self.__struct_fields__})

    def each(self, count: int, *, unit: float) -> Roles:
        """Divide by a number of tasks and a unit."""
        return Roles(**{name: getattr(self, name) / max(1, count) / unit for name in self.__struct_fields__})


#: Why a measurement has no value that a system was run for.
NOTHING_RAN = "no task ran"


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a case found for one of its measures."""

    #: "rate", "p50", "pss" ...: a case may return several samples with a measure each.
    measure: str
    value: float
    unit: str
    better: Better
    #: Tasks that ran never, and executions too many.
    lost: int = 0
    repeated: int = 0
    #: CPU microseconds per task (which is CPU milliseconds per 1,000 tasks), where they were taken.
    cpu_us: Roles | None = None
    #: Whatever else explains the value: numbers and words.
    extras: dict[str, Any] = {}


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One measure of one system on one workload, over all rounds."""

    workload: str
    system: str
    measure: str
    #: "tuned" (its documented best), "default", or "" where there is nothing to choose.
    settings: str = ""
    unit: str = ""
    better: Better = "higher"
    #: One of each round that worked, in the order of the rounds.
    values: tuple[float, ...] = ()
    #: Totals of all rounds.
    lost: int = 0
    repeated: int = 0
    #: Median over the rounds, role by role.
    cpu_us: Roles | None = None
    #: Extras of each round, in the order of `values`.
    extras: tuple[dict[str, Any], ...] = ()
    #: Why rounds failed, the first reason; empty if none did. A measurement without values has a reason.
    reason: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is a measurement of."""
        return self.workload, self.measure, self.system, self.settings

    @property
    def median(self) -> float:
        """The one in the middle. NaN without values."""
        return statistics.median(self.values) if self.values else float("nan")

    @property
    def low(self) -> float:
        """The smallest. NaN without values."""
        return min(self.values, default=float("nan"))

    @property
    def high(self) -> float:
        """The largest. NaN without values."""
        return max(self.values, default=float("nan"))

    @property
    def whole(self) -> bool:
        """Whether it was measured, and every task ran exactly once."""
        return bool(self.values) and not (self.lost or self.repeated or self.reason)


def gather(samples: Iterable[Sample], *, workload: str, system: str, settings: str = "") -> Measurement:
    """Make one measurement of one measure's samples, a round each. There has to be one at least. One without a value
    (NaN: no task ran) counts for what was lost and repeated."""
    rounds = list(samples)
    found = [sample for sample in rounds if not math.isnan(sample.value)]
    costs = [sample.cpu_us for sample in rounds if sample.cpu_us is not None]
    return Measurement(
        workload=workload,
        system=system,
        settings=settings,
        measure=rounds[0].measure,
        unit=rounds[0].unit,
        better=rounds[0].better,
        values=tuple(sample.value for sample in found),
        lost=sum(sample.lost for sample in rounds),
        repeated=sum(sample.repeated for sample in rounds),
        cpu_us=_median(costs) if costs else None,
        extras=tuple(sample.extras for sample in found),
        reason="" if found else NOTHING_RAN,
    )


def _median(costs: list[Roles]) -> Roles:
    fields = Roles.__struct_fields__
    return Roles(**{role: statistics.median(getattr(cost, role) for cost in costs) for role in fields})


def percentile(values: Iterable[float], percent: float) -> float:
    """The value below which so many percent of them lie. NaN without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("nan")


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """A results file: what was measured, on what, how often."""

    #: Machine, versions, what was wrong with the machine: see `bench.machine.about`.
    about: dict[str, Any]
    #: "quick", "normal" or "full".
    size: str
    rounds: int
    rounds_done: int = 0
    measurements: tuple[Measurement, ...] = ()
    format: int = FORMAT

    def find(self, workload: str, measure: str, system: str = "fastq", settings: str = "") -> Measurement | None:
        """Return the measurement of this key, or None."""
        key = (workload, measure, system, settings)
        return next((one for one in self.measurements if one.key == key), None)

    def save(self, path: Path) -> None:
        """Write the file anew. A reader sees the old one or the new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")
        beside.replace(path)


def load(path: Path) -> Results:
    """Read a results file. Raises ValueError for a file of another format, OSError if there is none."""
    raw = path.read_bytes()
    try:
        found = msgspec.json.decode(raw)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError("it is of another format, which is not read any more: measure that commit again")
        for one in found.get("measurements", ()):  # NaN was written as null until 5926f04
            if None in one["values"]:
                one["values"] = [value for value in one["values"] if value is not None]
                one["reason"] = one["reason"] or NOTHING_RAN
        return msgspec.convert(found, Results)
    except (msgspec.DecodeError, ValueError) as exc:
        raise ValueError(f"{path}: {exc}") from exc
