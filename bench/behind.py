"""Where fastq is behind: every measure in which another system is better than the best form of fastq, beyond noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import msgspec

from bench.measurement import Measurement, Results
from bench.notes import note
from bench.report import figure, number

OURS, FLOOR = "fastq", "floor"

#: Smaller differences of medians are the moment's; larger ones are asked for where there is one round only.
SMALL, SMALL_ONCE = 0.03, 0.1

#: What a worker spends on a task is compared, too, under this name.
CPU = "CPU per task"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A measure in which we are behind."""

    workload: str
    measure: str
    ours: Measurement
    #: Who is better, the best first.
    others: tuple[Measurement, ...]


def behind(results: Results) -> list[Row]:
    """All of them, in the file's order. Systems that carry a monitoring agent are compared with such."""
    return [row for (workload, measure), ones in _tables(results) for row in _rows(workload, measure, ones)]


def _tables(results: Results) -> Iterator[tuple[tuple[str, str], list[Measurement]]]:
    found: dict[tuple[str, str], list[Measurement]] = {}
    for one in results.measurements:
        if one.values and one.system != FLOOR:
            agent = one.system.partition("+")[2] if one.system.endswith(("+sentry", "+opentelemetry")) else ""
            found.setdefault((f"{one.workload}{agent and f' with {agent}'}", one.measure), []).append(one)
    yield from found.items()


def _rows(workload: str, measure: str, ones: Iterable[Measurement]) -> Iterator[Row]:
    mine, theirs = _parted(ones)
    if mine and theirs:
        ours = min(mine, key=_worth)
        others = sorted((one for one in theirs if ahead(one, ours)), key=_worth)
        if others:
            yield Row(workload=workload, measure=measure, ours=ours, others=tuple(others))
    mine, theirs = (_by_cpu(some) for some in (mine, theirs))
    if mine and theirs:
        ours = min(mine, key=_cpu)
        others = [one for one in sorted(theirs, key=_cpu) if _cpu(one) < _cpu(ours) * (1 - SMALL_ONCE)]
        if others:
            yield Row(workload=workload, measure=CPU, ours=ours, others=tuple(others))


def _parted(ones: Iterable[Measurement]) -> tuple[list[Measurement], list[Measurement]]:
    parts: tuple[list[Measurement], list[Measurement]] = ([], [])
    for one in ones:
        parts[not one.system.startswith(OURS)].append(one)
    return parts


def _by_cpu(ones: Iterable[Measurement]) -> list[Measurement]:
    return [one for one in ones if one.cpu_us is not None and one.cpu_us.total > 0]


def _cpu(one: Measurement) -> float:
    return one.cpu_us.total if one.cpu_us is not None else math.inf


def _worth(one: Measurement) -> float:
    return -one.median if one.better == "higher" else one.median


def ahead(one: Measurement, ours: Measurement) -> bool:
    """Whether every round of it was better than every one of ours, and its median by more than a moment's difference.

    With five rounds each, chance alone does that in 1 of 126 cases.
    """
    once = min(len(one.values), len(ours.values)) == 1
    if abs(one.median - ours.median) < (SMALL_ONCE if once else SMALL) * abs(ours.median):
        return False
    return one.low > ours.high if one.better == "higher" else one.high < ours.low


def section(results: Iterable[Results]) -> str:
    """The rows as Markdown, each with its note."""
    rows = {(row.workload, row.measure): row for each in results for row in behind(each)}
    if not rows:
        return "In no row, beyond noise."
    head = ["| | fastq's best | better | why |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *(_line(row) for row in rows.values())])


def _line(row: Row) -> str:
    shown: Callable[[Measurement], str] = _spent if row.measure == CPU else figure
    others = "<br>".join(f"{_name(one)}: {shown(one)}" for one in row.others)
    why = note(row.workload, row.measure) or "*not explained yet*"
    return f"| {row.workload}: {row.measure} | {_name(row.ours)}: {shown(row.ours)} | {others} | {why} |"


def _name(one: Measurement) -> str:
    return f"{one.system}{' (default)' if one.settings == 'default' else ''}"


def _spent(one: Measurement) -> str:
    return f"{number(_cpu(one))} µs"
