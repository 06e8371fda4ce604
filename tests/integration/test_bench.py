"""`fastq bench`: figures for a task of one's own, and not a key more or less on the server than before."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.eventually import eventually
from tests.fix_redis import Database
from tests.fix_worker import ROOT

pytestmark = pytest.mark.fastq_only("a command of fastq's")

SOURCE = """
import os, time
from celery import Celery
app = Celery("shop", broker={broker!r}, backend={backend!r})
app.conf.broker_transport_options = {options!r}

@app.task
def charge(order, factor=1):
    return order * factor

@app.task(ignore_result=True)
def forget(order): ...

@app.task
def refuse(): raise ValueError("no")

@app.task
def wait(): time.sleep(60)
"""


class Shop:
    """An application in a folder, and a server that others use as well."""

    def __init__(self, folder: Path, db: Database) -> None:
        self.folder, self.db = folder, db
        self.write()
        db.client.lpush("celery", "a message", "another")
        db.client.hset("unacked", "tag", "held by a stock worker")
        db.client.hset("fastq:workers", "dead-1", '{"worker": "dead-1"}')
        db.client.sadd("_kombu.binding.celery", "celery\x06\x16\x06\x16celery")
        db.client.set("celery-task-meta-x", "a result")
        self.before = self.content()

    def write(self, *, broker: str = "", backend: str = "", **options: Any) -> None:
        broker = broker or self.db.url
        text = SOURCE.format(broker=broker, backend=backend or broker, options=options)
        (self.folder / "proj.py").write_text(text)

    def content(self) -> dict[str, bytes]:
        """Every key with all that is in it."""
        keys = self.db.keys("*")
        return {key: self.db.client.dump(key) or b"" for key in keys}

    def start(self, *words: str) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "C_FORCE_ROOT": "1", "FASTQ_WORKER_QUEUES": "celery"}
        return subprocess.Popen(
            [sys.executable, "-m", "fastq", "-A", "proj", "bench", *words],
            cwd=self.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def bench(self, *words: str) -> tuple[int, str]:
        """Exit code and output."""
        process = self.start(*words)
        output, _ = process.communicate(timeout=90)
        return process.returncode, output

    def benching(self) -> subprocess.Popen[str]:
        """One that is at work."""
        process = self.start("charge", "--args", "[1]", "--seconds", "60", "-c", "1")
        eventually(lambda: self.db.keys("fastq-bench-*:celery-task-meta-*"), within_s=30)
        return process


@pytest.fixture
def shop(tmp_path: Path, db: Database) -> Shop:
    return Shop(tmp_path, db)


def test_both_engines_side_by_side_leave_the_server_as_it_was(shop: Shop) -> None:
    words = ["charge", "--args", "[2]", "--kwargs", '{"factor": 3}', "--seconds", "0.6", "-c", "1"]
    code, output = shop.bench(*words, "--engine", "fastq,celery", "--json")
    assert code == 0, output
    ours, theirs = json.loads(output)
    assert (ours["engine"], theirs["engine"]) == ("fastq", "celery")
    for trial in (ours, theirs):
        assert trial["failed"] == 0
        assert trial["tasks"] > 10
        assert trial["p99_ms"] >= trial["p50_ms"] > 0
        assert min(trial["main_us"], trial["children_us"], trial["memory_mib"]) > 0
    assert shop.content() == shop.before


def test_a_task_without_results_is_counted_by_its_messages(shop: Shop) -> None:
    shop.write(global_keyprefix="shop:")
    code, output = shop.bench("forget", "--args", "[1]", "--seconds", "0.5", "-c", "1")
    assert code == 0, output
    assert re.search(r"tasks/s +[\d,]+\n", output)
    assert "no result on Redis" in output
    assert shop.content() == shop.before


def test_a_native_application_is_measured_as_well(shop: Shop) -> None:
    text = f"from fastq import FastQ\napp = FastQ('shop', broker_url={shop.db.url!r}, result_backend={shop.db.url!r})\n"
    (shop.folder / "proj.py").write_text(f"{text}@app.task\ndef charge(order: int) -> int: return order\n")
    code, output = shop.bench("charge", "--args", "[1]", "--seconds", "0.5", "-c", "1", "--json")
    assert code == 0, output
    (ours,) = json.loads(output)
    assert ours["tasks"] > 10
    assert ours["p50_ms"] > 0
    assert shop.content() == shop.before
    code, output = shop.bench("charge", "--engine", "celery")
    assert (code, "which celery cannot run" in output) == (2, True)


def test_tasks_that_fail_are_told_and_are_exit_code_1(shop: Shop) -> None:
    code, output = shop.bench("proj.refuse", "--seconds", "0.5", "-c", "1")
    assert code == 1
    assert re.search(r"failed +[1-9][\d,]*\n", output), output
    assert shop.content() == shop.before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_the_server_as_it_was(shop: Shop, number: signal.Signals) -> None:
    process = shop.benching()
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert shop.content() == shop.before


def test_killed_it_leaves_no_worker_and_only_keys_that_clean_removes(shop: Shop) -> None:
    process = shop.benching()
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=30)
    eventually(lambda: not [one for one in family if one.is_running() and one.status() != "zombie"], within_s=20)
    left = {key: value for key, value in shop.content().items() if key not in shop.before}
    assert all(re.match(r"fastq-bench-[0-9a-f]{12}:", key) for key in left)
    code, output = shop.bench("--clean")
    assert (code, output) == (0, f"{len(left)} keys of earlier benches removed\n")
    assert shop.content() == shop.before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["chrage"], "no task 'chrage'; did you mean proj.charge?"),
        (["charge", "--args", "[1"], "--args: must be a JSON list, such as '[1, \"a\"]'; '[1' is not JSON"),
        (["charge", "--kwargs", "[1]"], "--kwargs: must be a JSON object"),
        (["charge", "--engine", "fastq,rq"], "--engine: must be a comma list of fastq and celery, got 'fastq,rq'"),
        (["charge", "--seconds", "0"], "--seconds: must be more than 0"),
        ([], "name the task"),
    ],
)
def test_mistakes_are_named_in_one_line(shop: Shop, words: list[str], says: str) -> None:
    code, output = shop.bench(*words)
    assert (code, output.count("\n")) == (2, 1), output
    assert says in output


def test_a_server_that_is_not_there_is_one_line_and_1(shop: Shop) -> None:
    shop.write(broker="redis://127.0.0.1:1/0")
    code, output = shop.bench("charge", "--args", "[1]")
    assert (code, output.count("\n")) == (1, 1), output
    assert "redis://127.0.0.1:1/0" in output


def test_a_worker_that_cannot_start_is_told_with_its_log(shop: Shop) -> None:
    code, output = shop.bench("charge", "--args", "[1]", "--worker-options", "--no-such-option")
    assert code == 1
    assert "the fastq worker ended with exit code 2; its log:" in output
    assert "--no-such-option" in output
    assert shop.content() == shop.before
