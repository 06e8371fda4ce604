"""Say what changed between two results files beyond noise: `python -m bench.compare A B`.

**The test.** Both files hold one value a round. The values of A and B are ranked together, and the exact two-sided
Mann-Whitney test says how often chance alone would put them as far apart: it assumes nothing about how the values are
spread, which for rates and latencies is lopsided, and one outlier moves it by one rank only. (A bootstrap of medians of
five values only repeats those five, and is too sure of itself.) A change counts when that is at most 1 % *and* the
medians differ by 3 % or more: rounds of one run lie close together, and the same commit, measured again an hour later,
can be off by one or two percent in all of them. With five rounds each the smallest possible chance is 0.8 %, all values
of one below all of the other; with fewer than five and five nothing can be told, and that is what is said.

**The control.** Systems that are not ours did not change between two commits. When they moved, the machine did, and by
how much is printed: what we gained or lost has to be read against that.

Exit 0: nothing of ours is worse. 1: something is, or has failed, or is missing in B, or lost or repeated tasks. 2: the
files cannot be compared.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from bench.measurement import Measurement, Results, load
from bench.report import number

#: Chance of a false alarm, for each measurement.
CHANCE = 0.01

#: Smaller changes are the moment's.
SMALL = 0.03

#: With which the names of systems begin that have something of ours in them.
OURS = "fastq"

Verdict = Literal["better", "worse", "same", "unknown", "new", "missing", "failed", "wrong"]

#: Verdicts on something of ours that end with exit code 1.
BAD: frozenset[Verdict] = frozenset({"worse", "missing", "failed", "wrong"})


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement in both files."""

    before: Measurement | None
    after: Measurement | None
    verdict: Verdict
    #: How often chance would do it, where it was tested.
    chance: float | None = None

    @property
    def either(self) -> Measurement:
        """Whichever there is."""
        found = self.after or self.before
        assert found is not None
        return found

    @property
    def by(self) -> float:
        """Relative change of the median: 0.1 is a tenth more. NaN without both."""
        if self.before is None or self.after is None or not self.before.median:
            return float("nan")
        return self.after.median / self.before.median - 1


def chance_of(before: Sequence[float], after: Sequence[float]) -> float:
    """Return how often chance alone puts two samples at least so far apart (Mann-Whitney, exact, ties allowed)."""
    both = sorted([*before, *after])
    # Twice the mean rank of equal values, so that it stays a whole number.
    rank = {value: 2 * both.index(value) + both.count(value) + 1 for value in both}
    ways = _ways([rank[value] for value in both], len(before))
    total, expected = sum(ways.values()), len(before) * (len(both) + 1)
    found = abs(sum(rank[value] for value in before) - expected)
    return sum(count for ranks, count in ways.items() if abs(ranks - expected) >= found) / total


def _ways(ranks: list[int], size: int) -> dict[int, int]:
    """How many choices of `size` of the ranks have each sum."""
    by_size: list[dict[int, int]] = [{0: 1}, *({} for _ in range(size))]
    for rank in ranks:
        for taken in range(size, 0, -1):
            for reached, count in by_size[taken - 1].items():
                by_size[taken][reached + rank] = by_size[taken].get(reached + rank, 0) + count
    return by_size[size]


def compare(before: Results, after: Results) -> list[Change]:
    """Return what became of every measurement of either file, in B's order."""
    old = {one.key: one for one in before.measurements}
    new = {one.key: one for one in after.measurements}
    return [judge(old.get(key), new.get(key)) for key in {**new, **old}]


def judge(before: Measurement | None, after: Measurement | None) -> Change:
    """Compare one measurement with itself."""
    if after is None or before is None:
        return Change(before=before, after=after, verdict="missing" if after is None else "new")
    if after.lost or after.repeated:
        return Change(before=before, after=after, verdict="wrong")
    if not after.values or after.reason:
        return Change(before=before, after=after, verdict="failed")
    if not before.values or not _enough(before, after):
        return Change(before=before, after=after, verdict="unknown")
    chance = chance_of(before.values, after.values)
    change = Change(before=before, after=after, verdict="same", chance=chance)
    if chance > CHANCE or abs(change.by) < SMALL:
        return change
    return msgspec.structs.replace(change, verdict="better" if (change.by > 0) == _up(after) else "worse")


def _up(one: Measurement) -> bool:
    return one.better == "higher"


def _enough(before: Measurement, after: Measurement) -> bool:
    """Whether even the clearest difference could be told from chance."""
    ours, theirs = len(before.values), len(after.values)
    return 2 / math.comb(ours + theirs, ours) <= CHANCE


def drift(changes: Sequence[Change]) -> float | None:
    """By how much the systems that are not ours got better (0.1: a tenth), or None without any."""
    gains = [
        change.by if _up(change.either) else -change.by
        for change in changes
        if not change.either.system.startswith(OURS) and math.isfinite(change.by)
    ]
    return statistics.median(gains) if gains else None


def words(changes: Sequence[Change]) -> str:
    """What to print."""
    told = [change for change in changes if change.verdict not in ("same", "unknown")]
    lines = [_line(change) for change in told] or ["nothing changed beyond noise"]
    same = sum(change.verdict == "same" for change in changes)
    unknown = [" ".join(change.either.key[:3]) for change in changes if change.verdict == "unknown"]
    lines.append(f"{same} of {len(changes)} are the same within noise")
    if unknown:
        lines.append(f"too few rounds to tell ({len(unknown)}): {', '.join(unknown)}")
    if (moved := drift(changes)) is not None:
        lines.append(f"systems that are not ours: {moved:+.1%} in the middle (better is positive){_doubt(moved)}")
    return "\n".join(lines)


def _doubt(moved: float) -> str:
    return "; the machine itself was another: read the changes above against that" if abs(moved) >= SMALL else ""


def _line(change: Change) -> str:
    one = change.either
    name = f"{one.workload} {one.measure}: {one.system}{f' ({one.settings})' if one.settings else ''}"
    if change.verdict == "wrong":
        return f"WRONG    {name}: {one.lost} lost, {one.repeated} repeated"
    if change.verdict == "failed":
        return f"FAILED   {name}: {one.reason}"
    if change.chance is None or change.before is None or change.after is None:
        return f"{change.verdict:8} {name}"
    figures = f"{_figures(change.before)} -> {_figures(change.after)} {one.unit}"
    return f"{change.verdict:8} {name}: {figures}, {change.by:+.1%} (chance: {change.chance:.1%})"


def _figures(one: Measurement) -> str:
    return f"{number(one.median)} [{number(one.low)}..{number(one.high)}]"


def _surroundings(before: Results, after: Results) -> list[str]:
    """What else differs between the two files, a sentence each. Raises ValueError where that forbids comparing."""
    if before.size != after.size:
        raise ValueError(f"one was measured with sizes {before.size!r}, the other with {after.size!r}")
    kinds = ("machine", "system", "python", "redis", "packages", "pinning")
    return [
        f"warning: another {kind}: {before.about.get(kind)} -> {after.about.get(kind)}"
        for kind in kinds
        if before.about.get(kind) != after.about.get(kind)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what changed from A to B."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description="What changed from A to B.")
    parser.add_argument("before", metavar="A", type=Path)
    parser.add_argument("after", metavar="B", type=Path)
    chosen = parser.parse_args(arguments)
    try:
        before, after = load(chosen.before), load(chosen.after)
        warnings = _surroundings(before, after)
    except (OSError, ValueError) as exc:
        print(f"cannot be compared: {exc}", file=sys.stderr)
        return 2
    changes = compare(before, after)
    print("\n".join([*warnings, words(changes)]))
    return 1 if any(one.either.system.startswith(OURS) and one.verdict in BAD for one in changes) else 0


if __name__ == "__main__":
    sys.exit(main())
