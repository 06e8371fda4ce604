"""The pytest plugin: its fixtures in a project of somebody's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.fastq_only

CONFTEST = """
import pytest
import shop

@pytest.fixture
def fastq_app():
    return shop.app
"""

SHOP = """
import os
from fastq import FastQ

app = FastQ("shop")
price = 3

@app.task
def total(count: int) -> int:
    return count * price

@app.task
def process() -> int:
    return os.getpid()
"""

TESTS = """
import os
import pytest
import shop

def test_eager(fastq_eager):
    assert shop.total.delay(2).get() == 6
    assert shop.process.delay().get() == os.getpid()
    assert [ran.name for ran in fastq_eager.ran] == ["shop.total", "shop.process"]

def test_worker(monkeypatch, request):
    monkeypatch.setattr(shop, "price", 5)
    worker = request.getfixturevalue("fastq_worker")
    assert shop.total.delay(2).get(10) == 10
    assert shop.process.delay().get(10) not in (os.getpid(), worker.pid)

@pytest.mark.parametrize("fastq_children", [1])
def test_children(fastq_worker):
    assert fastq_worker.children == 1
    assert len({shop.process.delay().get(10) for _ in range(5)}) == 1
"""


def run(folder: Path, **files: str) -> str:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:benchmark"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60).stdout


def test_the_fixtures_run_tasks_here_and_in_children(tmp_path: Path) -> None:
    assert "3 passed" in run(tmp_path, conftest=CONFTEST, shop=SHOP, test_shop=TESTS)


def test_without_an_application_it_says_what_to_do(tmp_path: Path) -> None:
    found = run(tmp_path, test_shop="def test(fastq_eager): pass")
    assert "fastq_app is not overridden: return your FastQ application" in found
