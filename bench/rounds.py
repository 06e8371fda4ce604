"""Measure in rounds: every round runs each case once, in another order, and what is there so far is kept after each.

A machine is faster at one moment than at another. Whoever measures one system for a minute and then the other measures
the minutes, too. So the cases take turns, and each is measured several times: the table shows the median and the range,
and a comparison of two files can tell a change from a moment (`bench.compare`).
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import cores, machine
from bench.kept import in_order
from bench.measurement import Measurement, Results, Sample, gather, load
from bench.pace import Pace, at_most, clock_after

#: Rounds of `make bench-full` at least. Fewer, and no change between two files could be told from chance: with five and
#: five, a rank test finds a clear difference in 1 of 126 orders.
ROUNDS = 5

#: A case that failed so often is not run again.
PATIENCE = 2

FOLDER = Path(__file__).parent / "results"


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One system on one workload: what a round runs once."""

    workload: str
    system: str
    settings: str = ""
    #: Run it; return a sample of each measure. Whatever it raises is recorded as the reason why it failed.
    run: Callable[[], Iterable[Sample]]
    #: Rounds after which it is not run again; 0: in all of them. For what takes minutes and does not vary.
    at_most: int = 0
    #: Seconds one run of it may take; 0: as long as it likes.
    within_s: float = 0.0

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.workload}: {self.system}{f' ({self.settings})' if self.settings else ''}"


class _Found:
    """All samples of one case so far."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.samples: dict[str, list[Sample]] = {}
        self.ran = 0
        self.failures: list[str] = []

    @property
    def open(self) -> bool:
        """Whether it is to be run again."""
        return len(self.failures) < PATIENCE and not 0 < self.case.at_most <= self.ran

    def left(self, rounds: int) -> int:
        """How many of so many rounds will run it."""
        return min(rounds, (self.case.at_most or self.ran + rounds) - self.ran) if self.open else 0

    def run(self) -> None:
        """Run it once. Only what ends the whole measuring (Ctrl-C) comes out."""
        self.ran += 1
        try:
            with at_most(self.case.within_s):
                samples = list(self.case.run())
            for sample in samples:
                self.samples.setdefault(sample.measure, []).append(sample)
        except Exception as exc:  # a system that fails is a result
            self.failures.append(f"{type(exc).__name__}: {exc}")
            print(f"  {self.case.name} failed: {exc}", file=sys.stderr, flush=True)

    def measurements(self) -> list[Measurement]:
        """One of each measure; one without values if there is nothing but a failure."""
        workload, system, settings = self.case.workload, self.case.system, self.case.settings
        reason = self.failures[0] if self.failures else ""
        if not self.samples and reason:
            return [Measurement(workload=workload, system=system, settings=settings, measure="", reason=reason)]
        found = (gather(each, workload=workload, system=system, settings=settings) for each in self.samples.values())
        return [msgspec.structs.replace(one, reason=reason) for one in found]


def path_for(about: dict[str, Any], *, size: str) -> Path:
    """Where the results of this commit are kept: `bench/results/DATE-COMMIT[-SIZE].json`."""
    return FOLDER / f"{about['date']}-{about['commit']}{'' if size == 'normal' else '-' + size}.json"


def run(
    cases: Sequence[Case],
    *,
    rounds: int,
    size: str,
    path: Path | None = None,
    more: Mapping[str, Any] | None = None,
    within_s: float = 0.0,
) -> tuple[Results, Path]:
    """Measure all cases in so many rounds, and return the results and the file they are in.

    Prints machine, warnings, progress and the expected end to standard error. `path`: another file than that of this
    commit; `more`: for its "about", such as versions of other systems; `within_s`: what would end later is left out,
    first further rounds of cases that are not in all rounds anyway, then whole rounds. If there is such a file of the
    same commit and size, what it has of other cases stays in it. It is written after every case of the first round, and
    then after every round: on Ctrl-C, KeyboardInterrupt comes out and the file holds the rounds that were complete.
    """
    about = {**machine.about(), **(more or {})}
    path = path or path_for(about, size=size)
    _introduce(about, cases, rounds)
    cores.pin("sender")
    found, kept = [_Found(case) for case in cases], _kept(path, about, cases, size=size)
    pace = Pace(_earlier(path, size=size))
    began, ticks = time.monotonic(), machine.Ticks.now()

    def save(done: int) -> Results:
        steal, seconds = machine.Ticks.now().steal_since(ticks), round(time.monotonic() - began)
        during = {"seconds": seconds, "steal": steal, "cases": {**_taken(kept), **pace.taken}}
        results = _results({**about, "during": during}, found, size=size, rounds=rounds, done=done)
        results = _with(results, kept)
        results.save(path)
        return results

    for done in range(rounds):
        _round(found, done, rounds, pace=pace, save=save, until=began + within_s if within_s else math.inf)
        results, now = save(done + 1), time.monotonic()
        next_s = pace.expected_s(each.case.name for each in found if each.open and not each.case.at_most)
        if within_s and now - began + (next_s or 0.0) > within_s and done + 1 < rounds:
            print(f"{done + 1} of {rounds} rounds in {now - began:.0f} s; no time for another", file=sys.stderr)
            break
    return results, path


def _round(
    found: list[_Found], done: int, rounds: int, *, pace: Pace, save: Callable[[int], Results], until: float
) -> None:
    turns = [turn for turn in _rotated(found, done, rounds) if turn.open]
    all_s = pace.expected_s(each.case.name for each in found for _ in range(each.left(rounds - done)))
    if done and time.monotonic() + (all_s or 0.0) > until:
        turns = [turn for turn in turns if not turn.case.at_most] or turns
    for number, turn in enumerate(turns):
        later = [each for each in found for _ in range(each.left(rounds - done - 1 + (each in turns[number:])))]
        end = clock_after(pace.expected_s(each.case.name for each in later), until=until)
        about = f"round {done + 1} of {rounds}, case {number + 1} of {len(turns)}{end}: {turn.case.name}"
        print(about, file=sys.stderr, flush=True)
        with pace.timed(turn.case.name):
            turn.run()
        if done == 0:
            save(0)


def _rotated(found: list[_Found], done: int, rounds: int) -> list[_Found]:
    """Another one begins in each round. Cases that stand side by side in the list stay so: they are compared."""
    first = done * max(1, len(found) // rounds) % len(found)
    return found[first:] + found[:first]


def _results(about: dict[str, Any], found: list[_Found], *, size: str, rounds: int, done: int) -> Results:
    measurements = tuple(one for each in found for one in each.measurements())
    return Results(about=about, size=size, rounds=rounds, rounds_done=done, measurements=measurements)


def _kept(path: Path, about: Mapping[str, Any], cases: Iterable[Case], *, size: str) -> Results | None:
    """What the file has of cases that are not measured now, if it is of this commit and size."""
    before = _load(path)
    if before is None or (before.about.get("commit"), before.size) != (about.get("commit"), size):
        return None
    anew = {(case.workload, case.system, case.settings) for case in cases}
    stay = tuple(one for one in before.measurements if (one.workload, one.system, one.settings) not in anew)
    return msgspec.structs.replace(before, measurements=stay) if stay else None


def _with(results: Results, kept: Results | None) -> Results:
    """Put what stays before what is new."""
    if kept is None:
        return results
    words = [*kept.about.get("warnings", ()), *results.about.get("warnings", ())]
    about = {**kept.about, **results.about, "warnings": list(dict.fromkeys(words))}
    for name in ("peers", "why"):
        if name in kept.about:
            about[name] = {**kept.about[name], **results.about.get(name, {})}
    return msgspec.structs.replace(
        results,
        about=about,
        rounds=max(kept.rounds, results.rounds),
        rounds_done=max(kept.rounds_done, results.rounds_done),
        measurements=(*kept.measurements, *results.measurements),
    )


def _load(path: Path) -> Results | None:
    try:
        return load(path)
    except (OSError, ValueError):
        return None


def _taken(results: Results | None) -> dict[str, list[float]]:
    return dict(results.about.get("during", {}).get("cases", {})) if results else {}


def _earlier(path: Path, *, size: str) -> dict[str, list[float]]:
    """How long cases took in the other results of this size in the folder, the newest last."""
    found: dict[str, list[float]] = {}
    for _path, results in in_order(path.parent.glob("*.json")):
        if results.size == size:
            found.update(_taken(results))
    return found


def _introduce(about: dict[str, Any], cases: Sequence[Case], rounds: int) -> None:
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    print(f"{about['machine']}, {about['system']}; {about['pinning']}", file=sys.stderr)
    print(f"Python {about['python']}, {packages}; {about['redis']}", file=sys.stderr)
    for warning in about["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{len(cases)} cases, {rounds} rounds", file=sys.stderr, flush=True)
