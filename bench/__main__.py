"""Measure what fastq promises, beside stock Celery and the floor: `python -m bench [--rows a,b] [--quick | --long]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from bench import drain, enqueue, idle, latency, memory, packed, promises, report, rounds, start
from bench.measurement import Results
from bench.rounds import Case
from bench.sizes import LONG, NORMAL, QUICK, Sizes
from fastq.cli.interrupts import interruptible

#: What is measured, in the order of the table.
ROWS: dict[str, Callable[[Sizes], list[Case]]] = {
    "noop": drain.noop,
    "stored": drain.stored,
    "packed": packed.packed,
    "late": drain.late,
    "events": drain.events,
    "far": drain.far,
    "scaling": drain.scaling,
    "recycled": drain.recycled,
    "latency": latency.latency,
    "enqueue": enqueue.enqueue,
    "idle": idle.rest,
    "flat": memory.flat,
    "eta": memory.eta,
    "pss": memory.pss,
    "start": start.start,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rows", default=",".join(ROWS), help="comma list of: %(default)s")
    parser.add_argument("--rounds", type=int, default=0, help="another number of rounds than that of the size")
    parser.add_argument("--out", type=Path, help="results file, instead of bench/results/DATE-COMMIT.json")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="sizes", action="store_const", const=QUICK, help="small: does it work?")
    size.add_argument("--long", dest="sizes", action="store_const", const=LONG, help="a million tasks where promised")
    parser.set_defaults(sizes=NORMAL)
    chosen = parser.parse_args()
    unknown = set(chosen.rows.split(",")) - set(ROWS)
    if unknown:
        parser.error(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    return chosen


def main() -> int:
    """Measure, print, keep. Exit 1 when something of ours could not be measured, or we lost or repeated tasks."""
    chosen = _arguments()
    cases = [case for name in chosen.rows.split(",") for case in ROWS[name](chosen.sizes)]
    count = chosen.rounds or chosen.sizes.rounds
    try:
        # TERM as Ctrl-C: both unwind the blocks that stop workers and servers.
        with interruptible():
            results, path = rounds.run(
                cases, rounds=count, size=chosen.sizes.name, path=chosen.out, within_s=chosen.sizes.within_s
            )
    except KeyboardInterrupt:
        print("interrupted; everything was stopped", file=sys.stderr)
        return 130
    print(report.headline(results))
    print(f"\nRaw figures: {path}", file=sys.stderr)
    return 0 if _whole(results) else 1


def _whole(results: Results) -> bool:
    """Celery may lose what it loses; a row that says nothing about us, or a loss of ours, is a failure."""
    ours = [one for one in results.measurements if one.system == "fastq"]
    return all(one.whole for one in ours) and len(promises.rows(results)) > 0


if __name__ == "__main__":
    sys.exit(main())
