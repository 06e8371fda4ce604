"""Measure the figures fastq promises, beside stock Celery: `python -m bench [--rows a,b] [--quick | --full]`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable

from bench import drain, idle, latency, machine, memory, report, start
from bench.line import FULL, NORMAL, QUICK, Line, Sizes, failed

#: Each row of the table, in its order.
ROWS: dict[str, Callable[[Sizes], list[Line]]] = {
    "noop": drain.noop,
    "stored": drain.stored,
    "late": drain.late,
    "far": drain.far,
    "events": drain.events,
    "recycled": drain.recycled,
    "latency": latency.latency,
    "idle": idle.rest,
    "flat": memory.flat,
    "eta": memory.eta,
    "pss": memory.pss,
    "start": start.start,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rows", default=",".join(ROWS), help="comma list of: %(default)s")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="sizes", action="store_const", const=QUICK, help="small: does it work?")
    size.add_argument("--full", dest="sizes", action="store_const", const=FULL, help="a million tasks where promised")
    parser.set_defaults(sizes=NORMAL)
    chosen = parser.parse_args()
    unknown = set(chosen.rows.split(",")) - set(ROWS)
    if unknown:
        parser.error(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    return chosen


def _measure(name: str, sizes: Sizes) -> list[Line]:
    print(f"measuring {name} ...", file=sys.stderr, flush=True)
    try:
        return ROWS[name](sizes)
    except (RuntimeError, TimeoutError, OSError) as exc:
        print(f"{name}: {exc}", file=sys.stderr)
        return [failed(name, target="", reason=exc)]


def main() -> int:
    """Measure, print, keep. Exit 1 when something could not be measured, or when tasks were lost or repeated."""
    # TERM as Ctrl-C: both unwind the blocks that stop workers and servers.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chosen = _arguments()
    about = machine.about()
    lines: list[Line] = []
    try:
        for name in chosen.rows.split(","):
            lines += _measure(name, chosen.sizes)
    except KeyboardInterrupt:
        print("interrupted; everything was stopped", file=sys.stderr)
        return 130
    print(report.markdown(lines, about=about, sizes=chosen.sizes))
    print(f"\nRaw figures: {report.keep(lines, about=about, sizes=chosen.sizes)}", file=sys.stderr)
    return 1 if any("reason" in line.evidence or line.lost or line.repeated for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
