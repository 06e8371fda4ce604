"""`fastq doctor`: what it finds in an application, without starting anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fix_redis import Database, RedisServer
from tests.fix_worker import ROOT

pytestmark = pytest.mark.fastq_only("a command of fastq's")

HEAD = """
from celery import Celery
app = Celery("shop", broker={broker!r}, backend={broker!r})
"""


def doctor(folder: Path, source: str, *args: str, broker: str = "redis://127.0.0.1:1/0") -> tuple[int, str]:
    """Exit code and output for an application with this source."""
    (folder / "proj.py").write_text(HEAD.format(broker=broker) + source)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CELERY_BROKER_URL": "", "C_FORCE_ROOT": "", "FASTQ_FAST": "1"}
    command = [sys.executable, "-m", "fastq", "-A", "proj", "doctor", *args]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def findings(folder: Path, source: str, *args: str, **more: Any) -> dict[str, str]:
    """What it finds, by what it is about."""
    _code, output = doctor(folder, source, "--json", *args, **more)
    report, _end = json.JSONDecoder().raw_decode(output)
    return {found["about"]: f"{found['level']}: {found['says']}" for found in report["findings"]}


def test_nothing_is_wrong_with_an_ordinary_application(tmp_path: Path, db: Database) -> None:
    source = "@app.task\ndef charge(order): ...\n"
    code, output = doctor(tmp_path, source, "-Q", "orders,mails", "-c", "3", broker=db.url)
    assert code == 0, output
    assert "Nothing wrong." in output
    assert "queues       orders,mails".replace(",", ", ") in output
    assert "concurrency  3" in output
    assert "shop, 1 tasks" in output


def test_no_process_is_started_and_no_message_taken(tmp_path: Path, db: Database) -> None:
    db.client.lpush("celery", "a message")
    source = "import os\nos.fork = os.posix_spawn = None\n"
    assert doctor(tmp_path, source, broker=db.url)[0] == 0
    assert db.keys("*") == ["celery"]
    assert db.length() == 1


def test_a_misspelt_setting_is_found(tmp_path: Path) -> None:
    source = "app.conf.task_ackslate = True\napp.conf.shop_name = 'x'\n"
    found = findings(tmp_path, source, "--offline")
    assert found["task_ackslate"].startswith("wrong: ")
    assert "did you mean task_acks_late?" in found["task_ackslate"]
    assert "shop_name" not in found


def test_each_setting_has_its_origin(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("task_acks_late = True\n")
    source = "app.config_from_object('config')\napp.conf.result_expires = 60\n"
    code, output = doctor(tmp_path, source, "--offline", "--time-limit", "9", "--", "worker.prefetch_multiplier=1")
    assert code == 0, output
    lines = {line.split()[0]: line for line in output.splitlines() if line.startswith("  ")}
    assert "config_from_object('config')" in lines["task_acks_late"]
    assert "the application's code" in lines["result_expires"]
    assert "the command line, after --" in lines["worker_prefetch_multiplier"]


def test_a_setting_with_another_effect_is_named(tmp_path: Path) -> None:
    found = findings(tmp_path, "app.conf.broker_transport_options = {'visibility_timeout': 60}\n", "--offline")
    assert found["broker_transport_options"].startswith("differs: ")
    assert "leases" in found["broker_transport_options"]


def test_a_secret_is_not_shown(tmp_path: Path) -> None:
    source = "app.conf.broker_url = 'redis://me:hunter2@127.0.0.1:1/0'\napp.conf.redis_password = 'hunter2'\n"
    for args in ([], ["--json"]):
        assert "hunter2" not in doctor(tmp_path, source, *args)[1]


def test_a_broker_that_cannot_be_reached_is_wrong(tmp_path: Path) -> None:
    code, output = doctor(tmp_path, "")
    assert code == 1
    assert "cannot be reached" in output


def test_a_transport_that_there_is_not_yet_is_wrong(tmp_path: Path) -> None:
    found = findings(tmp_path, "app.conf.broker_url = 'amqp://'\n", "--offline")
    assert "amqp" in found["broker_url"]
    assert found["broker_url"].startswith("wrong")


def test_a_server_that_evicts_is_wrong(tmp_path: Path, aof_server: RedisServer) -> None:
    client = aof_server.client()
    client.config_set("maxmemory", "100mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    found = findings(tmp_path, "", broker=aof_server.url())
    assert "evict" in found["broker_url"]


def test_limits_that_contradict_each_other(tmp_path: Path) -> None:
    source = "@app.task(soft_time_limit=10, time_limit=5)\ndef f(): ...\n@app.task(rate_limit='often')\ndef g(): ...\n"
    found = findings(tmp_path, source, "--offline")
    assert "killed before it is warned" in found["proj.f"]
    assert "'often' is no rate" in found["proj.g"]


def test_why_tasks_take_the_full_way(tmp_path: Path) -> None:
    source = """
class Base(app.Task):
    def on_success(self, retval, task_id, args, kwargs): ...
@app.task(base=Base)
def f(): ...
@app.task
def g(): ...
"""
    assert (
        "1 of 2 tasks take the full way, because it has its own on_success: proj.f"
        in findings(tmp_path, source, "--offline")["speed"]
    )


def test_an_application_that_is_not_there(tmp_path: Path) -> None:
    code, output = doctor(tmp_path, "import nowhere_to_be_found\n")
    assert code == 2
    assert "nowhere_to_be_found" in output
