"""Keep a worker busy for a profiler: `python -m bench.busy [--task stored] [--tasks 500000] [--engine fastq]`.

The backlog is there first, as in `make bench`; then the worker starts, and its processes are printed by role, so that
perf and py-spy can be attached. 500,000 tasks take about three seconds, and a gigabyte in Redis.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from bench.lab import Lab, lab
from bench.processes import ENGINES, Worker


def _show(place: Lab, worker: Worker) -> None:
    server: Any = place.client.info("server")
    found = {role: [one.pid for one in some] for role, some in worker.processes().items()}
    for role, pids in {**found, "redis": [server["process_id"]]}.items():
        print(f"{role:8} {','.join(map(str, pids))}", flush=True)


def main() -> int:
    """Run until the backlog is worked off."""
    parser = argparse.ArgumentParser(prog="python -m bench.busy", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", default="stored", help="a task of bench/apps/tasks.py (%(default)s)")
    parser.add_argument("--tasks", type=int, default=500_000)
    parser.add_argument("--children", type=int, default=2)
    parser.add_argument("--engine", choices=sorted(ENGINES), default="fastq")
    chosen = parser.parse_args()
    with lab() as place:
        place.fill(chosen.task, chosen.tasks)
        with place.worker(ENGINES[chosen.engine], children=chosen.children) as worker:
            place.until_executed(1, worker=worker)
            _show(place, worker)
            place.until_executed(chosen.tasks, worker=worker)
        print(f"{place.ledger.count(chosen.tasks).rate:,.0f} tasks/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
