"""`fastq queues`: what waits, who consumes it, what is held, with and without an application."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.eventually import eventually
from tests.fix_lab import Lab
from tests.fix_worker import ROOT

pytestmark = pytest.mark.fastq_only("only fastq has the command")


def queues(*args: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "fastq", "queues", "--json", *args],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return {queue["queue"]: queue for queue in found["queues"]}


def test_what_waits_and_what_is_held(lab: Lab) -> None:
    worker = lab.worker("-Q", "one,two", concurrency=1)
    held = lab.send("hold_late", "a", queue="one")
    eventually(lambda: lab.ledger.count("start", "a"))
    first, *_ = [lab.send("add", 1, 2, queue="three", priority=priority) for priority in (0, 0, 3)]
    found = queues("-b", lab.broker, "-Q", "four")
    assert found["one"]["consumers"] == [worker.node]
    assert (found["one"]["claimed"], sum(found["one"]["lengths"].values())) == (1, 0)
    assert found["three"] == {
        "queue": "three",
        "lengths": {"0": 2, "3": 1, "6": 0, "9": 0},
        "consumers": [],
        "claimed": 0,
        "oldest": f"t.add[{first.id}]",
    }
    assert found["four"]["lengths"] == {"0": 0, "3": 0, "6": 0, "9": 0}
    lab.ledger.open_gate("a")
    held.get(timeout=10)
    lab.db.client.delete("three", "three\x06\x163")


def test_nobody_there_is_one_line_and_1() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastq", "queues", "-b", "redis://127.0.0.1:1"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
