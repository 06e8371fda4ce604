"""The full suite of benchmarks runs, small, and ends in order when it is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.measurement import load
from bench.peers import registry
from bench.processes import ROOT
from bench.workloads import registry as workloads
from tests.eventually import eventually

FULL = [sys.executable, "-m", "bench.full", "--quick", "--settings", "tuned"]

#: Workloads of seconds; systems that are variations of others are not measured with the first.
SHORT = [one for name in ("start", "calls", "sleep-async", "sleep") for one in workloads.WORKLOADS if one.name == name]


def test_systems_are_measured_and_every_task_is_counted(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    chosen = ["--systems", "fastq,celery", "--workloads", "start", "--out", str(out)]
    ran = subprocess.run([*FULL, *chosen], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    found = load(out)
    assert found.rounds_done == 1
    assert "celery" in found.about["peers"]
    keys = {(one.workload, one.measure, one.system) for one in found.measurements}
    assert keys == {("start", "first task", who) for who in ("fastq", "celery")}
    assert all(one.whole and one.median > 0 for one in found.measurements)
    assert "### start: first task\n" in ran.stdout
    assert {line.split(" ")[1] for line in ran.stdout.splitlines() if "| tuned |" in line} == {"fastq", "celery"}


def test_a_backlog_is_as_long_as_a_system_is_fast(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    chosen = ["--systems", "fastq", "--workloads", "noop", "--out", str(out)]
    subprocess.run([*FULL, *chosen], cwd=ROOT, capture_output=True, check=True, timeout=100)
    (found,) = load(out).measurements
    assert found.whole
    assert found.extras[0]["tasks"] > 1000


def words(process: psutil.Process) -> list[str]:
    """A process's command line; nothing for one that has ended, even if nobody has waited for it yet."""
    try:
        return process.cmdline() if process.is_running() else []
    except psutil.Error:
        return []


def test_a_suite_that_is_told_to_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    chosen = ["--systems", "fastq", "--workloads", "cpu", "--rounds", "50", "--out", str(tmp_path / "found.json")]
    with subprocess.Popen([*FULL, *chosen], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as suite:
        family: list[psutil.Process] = []

        def works() -> bool:
            family[:] = psutil.Process(suite.pid).children(recursive=True)
            return any("worker" in words(one) for one in family)

        eventually(works)
        suite.send_signal(signal.SIGTERM)
        assert suite.wait(30) == 130
    eventually(lambda: not any(words(one) for one in family))


@pytest.mark.parametrize("name", [name for name in registry.NAMES if name not in ("fastq", "fastq+celery", "celery")])
def test_a_peer_that_is_installed_runs_every_task_once(name: str, tmp_path: Path) -> None:
    peer = next(each for each in registry.PEERS if each.name == name)
    if peer.missing:
        pytest.skip(peer.missing)
    out = tmp_path / "found.json"
    workload = next(one for one in SHORT if workloads.takes(one, peer)).name
    chosen = ["--systems", name, "--workloads", workload, "--out", str(out)]
    ran = subprocess.run([*FULL, *chosen], cwd=ROOT, capture_output=True, text=True, timeout=100)
    found = load(out).measurements
    assert found, ran.stderr
    assert all(one.whole and one.values for one in found), ran.stderr


def test_a_choice_of_nothing_is_said_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    chosen = ["--systems", "fastq-coroutines", "--workloads", "start", "--out", str(out)]
    ran = subprocess.run([*FULL, *chosen], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (ran.returncode, out.exists()) == (2, False)
    assert "none of these systems" in ran.stderr


def test_the_parts_of_the_hot_path_are_found_by_their_command() -> None:
    # Of this run of pytest it is to know nothing: in one of several processes it would measure nothing.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "bench.micro", "--collect-only"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, env=env)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "test_claim_to_settlement" in found.stdout
