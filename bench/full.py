"""Measure fastq beside its peers on every workload: `python -m bench.full [--systems a,b] [--workloads x,y]`.

What is there so far is in the results file after every round, so an interrupted run keeps it. What the file of this
commit has of other workloads and systems stays in it, so the suite can be run in parts. `--list` shows which there are.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench import report, rounds
from bench.peers import registry as peers
from bench.peers.peer import Peer
from bench.rounds import Case
from bench.workloads import registry as workloads
from bench.workloads.calibration import FULL, QUICK, Calibration, Scale
from bench.workloads.registry import Workload
from bench.workloads.stage import clear_away
from fastq.cli.interrupts import interruptible

#: What is acknowledged early may be lost with a process that is killed, what is acknowledged late may run again: there,
#: that is what is measured, and no failure.
KILLS = frozenset({"kill", "kill-late", "kill-child"})


#: Rounds of a system with its default settings, which are there to show what tuning gives.
DEFAULTS = 3


def cases(chosen: Iterable[Workload], systems: Sequence[Peer], *, scale: Scale) -> list[Case]:
    """Each workload with each system that can do it, systems side by side."""
    known = Calibration()
    return [
        _case(workload, peer, scale, known)
        for _, some in itertools.groupby(chosen, key=lambda one: one.together or one.name)
        for peer, workload in itertools.product(systems, list(some))
        if workloads.takes(workload, peer)
    ]


def _case(workload: Workload, peer: Peer, scale: Scale, known: Calibration) -> Case:
    return Case(
        workload=workload.name,
        system=peer.name,
        settings=peer.settings,
        run=functools.partial(workload.run, peer, scale, known),
        at_most=DEFAULTS if peer.settings == "default" and not workload.at_most else workload.at_most,
        within_s=workload.within_s,
    )


def versions(systems: Iterable[Peer]) -> dict[str, dict[str, str]]:
    """Packages of each system, from its own environment."""
    found: dict[str, dict[str, str]] = {}
    for peer in systems:
        if peer.name not in found and not peer.missing:
            asked = subprocess.run([str(peer.python), "-c", _ASK, *peer.packages], capture_output=True, text=True)
            # Where one is missing, the reason stands with what then fails.
            found[peer.name] = dict(zip(peer.packages, asked.stdout.split(), strict=False))
    return found


_ASK = "import sys; from importlib import metadata; print(*map(metadata.version, sys.argv[1:]))"


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.full", description=__doc__)
    parser.add_argument("--systems", default=",".join(peers.NAMES), help="comma list of: %(default)s")
    parser.add_argument("--workloads", default=",".join(workloads.NAMES), help="comma list of: %(default)s")
    parser.add_argument("--settings", default="tuned,default", help="comma list of: %(default)s")
    parser.add_argument("--rounds", type=int, default=0, help=f"{rounds.ROUNDS} unless given; 1 with --quick")
    parser.add_argument(
        "--minutes",
        type=float,
        default=0,
        help="leave out what would end later: further rounds of what is not in all, then rounds",
    )
    parser.add_argument("--quick", action="store_true", help="small: does it work?")
    parser.add_argument("--out", type=Path, help="another results file than that of this commit in bench/results")
    parser.add_argument("--list", action="store_true", help="show systems and workloads")
    chosen = parser.parse_args(given)
    known = {"systems": peers.NAMES, "workloads": workloads.NAMES, "settings": ("tuned", "default")}
    for what, all_of_them in known.items():
        names = getattr(chosen, what).split(",")
        if unknown := [name for name in names if name not in all_of_them]:
            parser.error(f"no such {what}: {', '.join(unknown)}; there are {', '.join(all_of_them)}")
        setattr(chosen, what, names)
    return chosen


def _show() -> None:
    for peer in peers.PEERS:
        print(f"{peer.label:<26} {peer.why}{' NOT INSTALLED' if peer.missing else ''}")
    print()
    for workload in workloads.WORKLOADS:
        names = dict.fromkeys(peer.name for peer in peers.PEERS if workloads.takes(workload, peer))
        print(f"{workload.name:<14} {workload.what}: {', '.join(names)}")


def main(given: Sequence[str] | None = None) -> int:
    """Measure, print, keep. Exit 1: fastq failed, lost or repeated a task; 2: nothing to measure; 130: interrupted."""
    chosen = _arguments(given)
    if chosen.list:
        _show()
        return 0
    systems = [peer for peer in peers.PEERS if peer.name in chosen.systems and peer.settings in chosen.settings]
    scale = QUICK if chosen.quick else FULL
    picked = [one for one in workloads.WORKLOADS if one.name in chosen.workloads]
    if not (found := cases(picked, systems, scale=scale)):
        print("none of these systems is measured with any of these workloads: --list says which is", file=sys.stderr)
        return 2
    more: dict[str, Any] = {"peers": versions(systems), "why": {peer.label: peer.why for peer in systems}}
    try:
        # TERM as Ctrl-C: both unwind the blocks that stop workers, clients and servers.
        with interruptible(), contextlib.ExitStack() as at_the_end:
            at_the_end.callback(clear_away)
            results, path = rounds.run(
                found,
                rounds=chosen.rounds or (1 if chosen.quick else rounds.ROUNDS),
                size="full-quick" if chosen.quick else "full",
                path=chosen.out,
                more=more,
                within_s=chosen.minutes * 60,
            )
    except KeyboardInterrupt:
        print("interrupted; everything was stopped, and the complete rounds are kept", file=sys.stderr)
        return 130
    print(report.everything(results))
    print(f"\nRaw figures: {path}", file=sys.stderr)
    ours = [one for one in results.measurements if one.system.startswith("fastq")]
    return 0 if all(one.whole or (one.values and one.workload in KILLS) for one in ours) else 1


if __name__ == "__main__":
    sys.exit(main())
