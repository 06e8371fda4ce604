"""The lines of the table: one measured thing, both engines, what was to be reached."""

from __future__ import annotations

from typing import Any

import msgspec


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured. Celery gets smaller samples of the same work: it would take hours otherwise."""

    name: str
    drain: int
    drain_celery: int
    calls: int
    wakes: int
    idle_s: float
    flat: int
    flat_celery: int
    eta: int
    eta_celery: int
    starts: int


QUICK = Sizes(
    name="quick", drain=20_000, drain_celery=1_000, calls=200, wakes=20, idle_s=3.0,
    flat=20_000, flat_celery=1_000, eta=10_000, eta_celery=1_000, starts=1,
)  # fmt: skip

NORMAL = Sizes(
    name="normal", drain=200_000, drain_celery=6_000, calls=2_000, wakes=100, idle_s=15.0,
    flat=300_000, flat_celery=6_000, eta=100_000, eta_celery=10_000, starts=3,
)  # fmt: skip

FULL = Sizes(
    name="full", drain=500_000, drain_celery=20_000, calls=5_000, wakes=300, idle_s=60.0,
    flat=1_000_000, flat_celery=20_000, eta=1_000_000, eta_celery=20_000, starts=5,
)  # fmt: skip


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table and the evidence behind it."""

    what: str
    target: str
    fastq: str
    celery: str
    reached: bool | None = None
    #: Tasks of ours that ran never, and executions too many: either makes the whole bench fail.
    lost: int = 0
    repeated: int = 0
    evidence: dict[str, Any] = {}


def failed(what: str, *, target: str, reason: BaseException) -> Line:
    """The line of a measurement that could not be made."""
    words = f"{type(reason).__name__}: {reason}"
    return Line(
        what=what, target=target, fastq="could not be measured", celery="", reached=False, evidence={"reason": words}
    )


def share(ours: float, theirs: float) -> float:
    """How many times as much the first is."""
    return ours / theirs if theirs else float("inf")


def percentile(values: list[float], percent: float) -> float:
    """The value below which so many percent of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("nan")
