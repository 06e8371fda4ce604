"""Tables of results, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bench import promises
from bench.measurement import Measurement, Results
from bench.promises import Row

#: Of units that are read without a space before them.
_CLOSE = {"tasks/s": "/s"}


def number(value: float) -> str:
    """Three digits, or all before the point."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def figure(one: Measurement) -> str:
    """Median, unit and range, and what has to be said besides."""
    if not one.values:
        return f"could not be measured: {' '.join(one.reason.split())[:160]}"
    unit = _CLOSE.get(one.unit, f" {one.unit}")
    spread = f" ({number(one.low)} to {number(one.high)})" if len(one.values) > 1 else ""
    return f"{number(one.median)}{unit}{spread}{_flaws(one)}"


def _flaws(one: Measurement) -> str:
    found = [f"**{count} {word}**" for count, word in ((one.lost, "lost"), (one.repeated, "repeated")) if count]
    if one.reason:
        found.append(f"failed at times: {' '.join(one.reason.split())[:160]}")
    return "".join(f", {word}" for word in found)


def headline(results: Results) -> str:
    """The table of what fastq promises, with what it was measured on below it."""
    lines = [
        "| | fastq | Celery | floor | | to reach | reached |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *map(_headline_row, promises.rows(results)),
    ]
    return "\n".join([*lines, "", *surroundings(results)])


def front(results: Results) -> str:
    """The same for people in a hurry: medians only."""
    head = ["| | fastq | Celery | floor | |", "| --- " * 5 + "|"]
    rows = [
        f"| {row.promise.what} | {_brief(row, row.ours)} | {_brief(row, row.theirs)} | {_brief(row, row.floor)} | "
        f"{_relation(row).strip('*')} |"
        for row in promises.rows(results)
    ]
    about = results.about
    where = f"`make bench`, commit {about['commit']}, {about['date']}: {about['machine']} for worker, Redis and client"
    what = f"Python {about['python']}, Celery {about['packages'].get('celery', '')} tuned for speed, two children"
    return "\n".join([f"{where}, {what}.", _honesty(results), "", *head, *rows])


def _brief(row: Row, one: Measurement | None) -> str:
    """Without the range. The floor has no children."""
    if one is None or not one.values:
        return "" if one is None else figure(one)
    if row.promise.role and not row.value(one):
        return ""
    unit = "µs" if row.promise.role else one.unit
    return f"{number(row.value(one))}{_CLOSE.get(unit, f' {unit}')}{_flaws(one)}"


def _honesty(results: Results) -> str:
    lost, repeated = (sum(getattr(one, what) for one in results.measurements) for what in ("lost", "repeated"))
    told = f"{lost:,} were lost, {repeated:,} repeated" if lost or repeated else "none was lost, none repeated"
    return f"Medians of {results.rounds_done} interleaved rounds; each task writes its number once; {told}."


def _headline_row(row: Row) -> str:
    marks = {True: "yes", False: "**no**", None: ""}
    cells = [
        row.promise.what,
        _cell(row, row.ours),
        _cell(row, row.theirs),
        _cell(row, row.floor),
        _relation(row),
        _target(row),
        marks[row.reached],
    ]
    return f"| {' | '.join(cells)} |"


def _cell(row: Row, one: Measurement | None) -> str:
    if one is None:
        return ""
    return _brief(row, one) if row.promise.role else figure(one)


def _relation(row: Row) -> str:
    if row.share is not None:
        return f"**{row.share:.0%}**"
    return f"**{number(row.times)} ×**" if row.times is not None else ""


def _target(row: Row) -> str:
    promise = row.promise
    if promise.times is not None:
        return f"{promise.times:g} × Celery" if promise.times != 1 else "better than Celery"
    if promise.share is not None:
        return f"{promise.share:.0%}"
    return f"at most {promise.limit:g}" if promise.limit is not None else ""


def surroundings(results: Results) -> list[str]:
    """What it was measured on, and what was wrong with that."""
    about = results.about
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    lines = [
        f"{about['date']}, commit {about['commit']}, sizes `{results.size}`: median (and range) of "
        f"{results.rounds_done} interleaved rounds, fewer where that is said, and for memory and idling. "
        f"{about['machine']}, {about['pinning']}; {about['system']}, Python {about['python']}, {packages}; "
        f"{about['redis']}. Celery runs with `{about['celery_tuning']}` and the settings of `bench/apps/settings.py`.",
    ]
    if peers := about.get("peers"):
        versions = (f"{name} {version}" for packages in peers.values() for name, version in packages.items())
        lines.append(f"Peers: {', '.join(dict.fromkeys(versions))}.")
    if about["warnings"]:
        lines.append(f"The machine was not cold: {'; '.join(about['warnings'])}.")
    return lines


def everything(results: Results) -> str:
    """All measurements, a table for each workload and measure, the best first."""
    found: dict[str, dict[str, list[Measurement]]] = {}
    for one in results.measurements:
        # What failed has no measure: it stands below the first of its workload.
        tables = found.setdefault(one.workload, {})
        tables.setdefault(one.measure or next(iter(tables), ""), []).append(one)
    parts = [
        _table(f"{workload}{f': {measure}' if measure else ''}", ones)
        for workload, tables in found.items()
        for measure, ones in tables.items()
    ]
    return "\n\n".join([*parts, "\n".join(surroundings(results))])


def _table(title: str, ones: Iterable[Measurement]) -> str:
    ordered = sorted(ones, key=lambda one: (not one.values, one.median if one.better == "lower" else -one.median))
    head = [
        "| system | settings | median (range) | rounds | CPU per task: worker, children, Redis |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows = [f"| {one.system} | {one.settings} | {figure(one)} | {len(one.values)} | {_cpu(one)} |" for one in ordered]
    return "\n".join([f"### {title}", "", *head, *rows])


def _cpu(one: Measurement) -> str:
    cost = one.cpu_us
    if cost is None:
        return ""
    return f"{number(cost.engine + cost.nursery)}, {number(cost.children)}, {number(cost.redis)} µs"
