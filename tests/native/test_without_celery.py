"""Native applications where Celery is not installed: worker, command line, and what an import costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.apps import native
from tests.fix_lab import RESULT_S, Lab
from tests.fix_worker import ROOT

pytestmark = pytest.mark.fastq_only

#: Hides packages from every process that is started with it on its path, as if they were not installed.
HIDING = """
from importlib.machinery import PathFinder

HIDDEN = {"celery", "kombu", "billiard", "vine", "amqp", "typing_extensions"}
find = PathFinder.find_spec

def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in HIDDEN else find(name, path, target)

PathFinder.find_spec = find_spec
"""


@pytest.fixture
def hidden(tmp_path: Path, lab: Lab) -> dict[str, str]:
    (tmp_path / "sitecustomize.py").write_text(HIDING)
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    return {"PYTHONPATH": path, "FASTQ_TEST_BROKER": lab.db.url, "FASTQ_TEST_BACKEND": lab.db.url}


def run(*words: str, env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *words], env={**os.environ, **env}, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_worker_runs_tasks(lab: Lab, hidden: dict[str, str]) -> None:
    lab.use("tests.apps.native")
    lab.worker(env=hidden)
    native.app.conf.broker_url = native.app.conf.result_backend = lab.db.url
    native.app.close()
    try:
        assert native.add.delay(2, 3).get(RESULT_S) == 5
        assert native.flaky.delay(1).get(RESULT_S) == 1
    finally:
        native.app.close()


def test_the_command_line_works(hidden: dict[str, str]) -> None:
    fastq = ("-m", "fastq", "-A", "tests.apps.native")
    report = json.loads(run(*fastq, "doctor", "--json", env=hidden))
    assert report["application"] == "native"
    assert "tests.apps.native.add" in [task["name"] for task in report["tasks"]]
    assert [finding for finding in report["findings"] if finding["level"] == "wrong"] == []
    assert "queue" in run(*fastq, "queues", env=hidden)
    assert "No dead fastq worker" in run(*fastq, "recover", env=hidden)
    run(*fastq, "dlq", "list", env=hidden)
    assert run("-m", "fastq", "beat", "--help", env=hidden).startswith("Usage: fastq beat [OPTIONS]")


def test_a_celery_application_is_refused_with_what_to_install(hidden: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastq", "-A", "tests.apps.plain", "worker"],
        env={**os.environ, **hidden}, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert "celery" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_import_is_light() -> None:
    heavy = "{'redis', 'celery', 'kombu', 'asyncio'}"
    code = f"import sys, fastq; from fastq import FastQ; FastQ('x'); print(sorted({heavy} & sys.modules.keys()))"
    assert run("-c", code, env={}).strip() == "[]"
    code = "import time; began = time.process_time(); import fastq; print(time.process_time() - began)"
    assert min(float(run("-c", code, env={})) for _ in range(3)) < 0.06
