"""A pytest plugin for Celery's integration tests: their session worker is a process of its own.

Celery's fixture calls `celery.contrib.testing.worker.start_worker`, which is replaced here. What those tests look up in
the process of an in-process worker (its log records, its `task_received` signal, `celery.worker.state`) is brought
here by the worker.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import signals
from celery.app import trace
from celery.app.control import Inspect
from celery.contrib.testing import worker as embedded
from celery.utils.nodenames import anon_nodename
from celery.worker import state
from kombu.utils.json import dumps

from tests.celery_suite.choice import is_any
from tests.celery_suite.log_wire import Listener

#: Seconds for one test, whatever it asks for itself: Celery's ask for 300.
LONGEST_S = 200
#: Seconds for the worker to answer its first ping, and to stop.
READY_S, STOP_S = 60, 30

_embedded_start = embedded.start_worker
_inspect_init = Inspect.__init__


class WorkerProcess:
    """`celery worker` or `fastq worker` on the application of the tests."""

    def __init__(self, app: Any) -> None:
        self.engine = os.environ["CELERY_SUITE_ENGINE"]
        self.folder = Path(tempfile.mkdtemp(prefix="celery-suite-"))
        self.log_path = Path(os.environ["CELERY_SUITE_OUT"]) / f"worker-{self.engine}.log"
        self.listener = Listener(str(self.folder / "log"), _heard)
        own = {"CELERY_SUITE_CONFIG": dumps(_settings(app)), "CELERY_SUITE_LOG": self.listener.path}
        self.env = {**os.environ, **own, "C_FORCE_ROOT": "1", "PYTHONUNBUFFERED": "1"}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it runs a task."""
        from celery.contrib.testing.tasks import ping
        from celery.result import allow_join_result

        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(self._command(), stdout=log, stderr=log, env=self.env)
        with allow_join_result():
            assert ping.delay().get(timeout=READY_S) == "pong"

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", self.engine, "-A", "tests.celery_suite.worker_app", "worker", "-l", "INFO"]
        command += ["-c", os.environ["CELERY_SUITE_CONCURRENCY"], "-n", anon_nodename()]
        return [*command, "--without-mingle", "--without-gossip", "--without-heartbeat"]

    def stop(self) -> None:
        """End it, in order if it can."""
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self) -> None:
        """A new process, which knows of no revoked stamps."""
        if self.process is not None:
            self.stop()
            self.start()


def _settings(app: Any) -> dict[str, Any]:
    found = app.conf.table(with_defaults=False, censored=False)
    return {name: sorted(value) if isinstance(value, set) else value for name, value in found.items()}


def _heard(fields: dict[str, Any]) -> None:
    if "received" in fields:
        signals.task_received.send(sender=None, request=SimpleNamespace(**fields["received"]))
        return
    if fields["msg"] == trace.LOG_SUCCESS:
        state.successful_requests.add(fields["data"]["id"])
    logging.getLogger().handle(logging.makeLogRecord(fields))


@contextlib.contextmanager
def start_worker(app: Any, pool: str = "solo", **options: Any) -> Iterator[Any]:
    """The session worker as a process; any other one as Celery starts it."""
    if pool != "prefork":
        with _embedded_start(app, pool=pool, **options) as worker:
            yield worker
        return
    app.finalize()
    worker = WorkerProcess(app)
    state.revoked_stamps = _Stamps(worker)
    try:
        worker.start()
        yield worker
    finally:
        worker.stop()
        worker.listener.close()


class _Stamps(dict[str, Any]):
    """`celery.worker.state.revoked_stamps` of the worker, of which tests only want that it forgets."""

    def __init__(self, worker: WorkerProcess) -> None:
        super().__init__()
        self.worker = worker

    def clear(self) -> None:
        self.worker.restart()


# ---------------------------------------------------------------------------- which tests, and what became of them


class Report:
    """The worst outcome of every test, written as JSON at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tests: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called for each phase of each test, and for subtests."""
        test = self.tests.setdefault(report.nodeid, {"outcome": "passed", "seconds": 0.0, "why": ""})
        test["seconds"] += report.duration
        if report.failed or (report.skipped and test["outcome"] == "passed"):
            test["outcome"] = "failed" if report.failed else "skipped"
            test["why"] = str(report.longrepr)[-3000:]

    def pytest_sessionfinish(self) -> None:
        """Write the file that the runner reads."""
        self.path.write_text(json.dumps(self.tests, indent=1))


def _ask_one(self: Inspect, *args: Any, **options: Any) -> None:
    """There is one worker: a question to all is answered by the first reply, not after a second without another."""
    _inspect_init(self, *args, **{"limit": 1, **options})


def pytest_configure(config: pytest.Config) -> None:
    """Before Celery's fixtures are used."""
    embedded.start_worker = start_worker
    Inspect.__init__ = _ask_one
    config.pluginmanager.register(Report(Path(os.environ["CELERY_SUITE_REPORT"])))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what was chosen, and limit the time of each."""
    chosen = json.loads(os.environ["CELERY_SUITE_CHOICE"])
    kept = [item for item in items if _is_chosen(item.nodeid, **chosen)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
    for item in items:
        item.add_marker(pytest.mark.timeout(LONGEST_S), append=False)


def _is_chosen(nodeid: str, *, only: list[str], among: list[str], without: list[str]) -> bool:
    name = nodeid.removeprefix("t/integration/")
    return all(not chosen or is_any(name, chosen) for chosen in (only, among)) and not is_any(name, without)
