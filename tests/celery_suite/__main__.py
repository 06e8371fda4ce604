"""Run Celery's integration tests against a fastq worker and a `celery worker`; exit 1 if fastq owes one."""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.celery_suite.choice import NOT_APPLICABLE
from tests.celery_suite.quick import QUICK
from tests.celery_suite.run import Results, Runner
from tests.celery_suite.source import CACHE, SourceUnreachable, suite_folder
from tests.celery_suite.verdict import owed, side_by_side


def main(argv: list[str]) -> int:
    """0: nothing owed. 1: tests are owed. 2: Celery's tests cannot be had (0 with --skip-unreachable)."""
    arguments = _parser().parse_args(argv)
    try:
        folder = suite_folder()
    except SourceUnreachable as error:
        print(f"Celery's own tests were {'SKIPPED' if arguments.skip_unreachable else 'NOT RUN'}: {error}")
        return 0 if arguments.skip_unreachable else 2
    chosen = ["fastq"] if arguments.quick else arguments.engine or ["fastq", "celery"]
    # Both at once: these tests mostly wait.
    with ThreadPoolExecutor() as pool:
        engines = list(pool.map(lambda engine: _run(engine, folder, arguments), chosen))
    print(side_by_side(engines, not_applicable={} if arguments.quick else NOT_APPLICABLE))
    return _verdict(engines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.celery_suite", description=__doc__)
    parser.add_argument("tests", nargs="*", help="names as in the report; default: all")
    parser.add_argument("--quick", action="store_true", help="the fixed choice, on fastq alone; all has to pass")
    parser.add_argument("--skip-unreachable", action="store_true", help="succeed without the package index")
    parser.add_argument("--engine", choices=["fastq", "celery"], action="append", help="default: both")
    parser.add_argument(
        "--setting", action="append", default=[], metavar="NAME=JSON", help="one more setting of the application"
    )
    parser.add_argument("--concurrency", type=int, default=2, help="children of each worker; default 2")
    return parser


def _run(engine: str, folder: Path, arguments: argparse.Namespace) -> Results:
    print(f"running Celery's tests with {engine} worker ...", flush=True)
    settings = {name: json.loads(value) for name, _, value in (text.partition("=") for text in arguments.setting)}
    runner = Runner(
        folder=folder, engine=engine, out=CACHE / "last", concurrency=arguments.concurrency, settings=settings
    )
    return runner.run(only=arguments.tests or (QUICK if arguments.quick else ()))


def _verdict(engines: list[Results]) -> int:
    fastq, *others = engines
    missing = owed(fastq, others[0]) if others else fastq.named("failed")
    print(f"\n{len(missing)} tests are owed" + "".join(f"\n    {name}" for name in missing))
    if not fastq.named("passed"):
        print("no test passed at all")
    return 1 if missing or not fastq.named("passed") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
