"""Run Celery's tests against one engine, in a pytest of their own, on a Redis of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tests.celery_suite.choice import SIGNALS, is_any, not_applicable
from tests.celery_suite.source import ROOT
from tests.fix_redis import RedisServer

#: Where Celery's tests are, below the folder of its source distribution.
TESTS = "t/integration"


class Outcome(msgspec.Struct, frozen=True):
    """What became of one test."""

    outcome: str
    seconds: float = 0.0
    why: str = ""


class Results(msgspec.Struct):
    """What became of all tests with one engine."""

    engine: str
    tests: dict[str, Outcome] = {}
    #: Tests that failed at first and passed alone.
    repeated: set[str] = set()

    def named(self, outcome: str) -> list[str]:
        """The tests that ended so."""
        return sorted(name for name, test in self.tests.items() if test.outcome == outcome)

    @property
    def seconds(self) -> float:
        """How long all tests took together."""
        return sum(test.seconds for test in self.tests.values())


class Runner:
    """Runs any choice of the tests in `folder` against `engine`; writes logs and reports to `out`."""

    def __init__(
        self, *, folder: Path, engine: str, out: Path, concurrency: int, settings: Mapping[str, object]
    ) -> None:
        self.folder, self.engine, self.out, self.concurrency = folder, engine, out, concurrency
        self.signals = False
        # Celery's fixtures read this file, for the client and for the worker.
        (folder / "integration-tests-config.json").write_text(json.dumps(dict(settings)))

    def run(self, *, only: Sequence[str] = ()) -> Results:
        """All tests, or only those that match a pattern. First without, then with the signal that some wait for."""
        self.out.mkdir(parents=True, exist_ok=True)
        for old in self.out.glob(f"*-{self.engine}.*"):
            old.unlink()
        results = Results(self.engine)
        for self.signals in (False, True):
            if not only or any(self._may_be_here(pattern) for pattern in only):
                self._session(results, only=only)
        (self.out / f"results-{self.engine}.json").write_bytes(msgspec.json.encode(results))
        return results

    def _may_be_here(self, pattern: str) -> bool:
        waits = is_any(pattern, SIGNALS)
        return waits or any(name.startswith(pattern) for name in SIGNALS) if self.signals else not waits

    def _session(self, results: Results, *, only: Sequence[str]) -> None:
        """Those that fail are run again, alone, twice at most. Celery itself repeats many of them five times."""
        found = self._pytest(only=only)
        for _attempt in range(2):
            failed = [name for name, test in found.items() if test.outcome == "failed"]
            if failed:
                again = self._pytest(only=failed)
                results.repeated |= {name for name, test in again.items() if test.outcome == "passed"}
                found |= again
        results.tests |= found

    def _pytest(self, *, only: Sequence[str]) -> dict[str, Outcome]:
        report = self.out / f"report-{self.engine}.json"
        report.unlink(missing_ok=True)
        server = RedisServer()
        server.start()
        try:
            with (self.out / f"pytest-{self.engine}.log").open("ab") as log:
                environment = self._environment(server, report, only=only)
                subprocess.run(_command(only), cwd=self.folder, env=environment, stdout=log, stderr=log, check=False)
        finally:
            server.remove()
        return _read(report)

    def _environment(self, server: RedisServer, report: Path, *, only: Sequence[str]) -> dict[str, str]:
        without = not_applicable() if self.signals else [*not_applicable(), *SIGNALS]
        choice = {"only": list(only), "among": SIGNALS if self.signals else [], "without": without}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY", "FASTQ_TEST"))}
        return inherited | {
            "TEST_BROKER": server.url(),
            "TEST_BACKEND": server.url(),
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(server.port),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}",
            "CELERY_SUITE_ENGINE": self.engine,
            "CELERY_SUITE_CONCURRENCY": str(self.concurrency),
            "CELERY_SUITE_REPORT": str(report),
            "CELERY_SUITE_OUT": str(self.out),
            "CELERY_SUITE_CHOICE": json.dumps(choice),
            "CELERY_SUITE_SIGNALS": "1" if self.signals else "",
        }


def _command(only: Sequence[str]) -> list[str]:
    files = sorted({f"{TESTS}/{name.split('::')[0]}" for name in only}) or [TESTS]
    # Whole files are not even imported: some need packages that are not installed.
    ignored = [f"--ignore={TESTS}/{pattern}" for pattern in not_applicable() if "::" not in pattern]
    plugins = ["-p", "celery.contrib.pytest", "-p", "tests.celery_suite.plugin", "-p", "no:cacheprovider"]
    return [sys.executable, "-m", "pytest", *plugins, "-v", "-rfE", "--color=no", *ignored, *files]


def _read(report: Path) -> dict[str, Outcome]:
    if not report.exists():
        return {}
    found = msgspec.json.decode(report.read_bytes(), type=dict[str, Outcome])
    return {name.removeprefix(f"{TESTS}/"): outcome for name, outcome in found.items()}
