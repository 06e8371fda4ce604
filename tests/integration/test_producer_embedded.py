"""The server that is started for trying things out: found, answering, and gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis

from fastq import embedded
from fastq.errors import SurroundingsError
from tests.eventually import eventually


def _none(*_: object) -> None:
    return None


def gone(pid: int) -> Callable[[], bool]:
    """Whether a process has ended."""
    return lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_it_answers_and_is_gone_after_the_block() -> None:
    with embedded.EmbeddedRedis() as server:
        client = redis.Redis.from_url(server.url)
        assert client.ping()
        assert client.config_get("save") == {"save": ""}
        client.close()
        pid = server.pid
    assert pid is not None
    assert gone(pid)()
    server.stop()


def test_two_do_not_meet() -> None:
    with embedded.EmbeddedRedis() as one, embedded.EmbeddedRedis() as other:
        assert one.port != other.port


def test_without_any_server_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_bundled", _none)
    monkeypatch.setattr(shutil, "which", _none)
    with pytest.raises(SurroundingsError, match="apt install redis-server"):
        embedded.find_server()


def test_a_server_that_refuses_its_options_shows_its_log() -> None:
    with pytest.raises(SurroundingsError, match="no-such-directive"):
        embedded.EmbeddedRedis("--no-such-directive", "1").start()


def test_it_ends_with_a_killed_parent(tmp_path: Path) -> None:
    program = "from fastq.embedded import EmbeddedRedis as E; s = E(); s.start(); print(s.pid, flush=True); input()"
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # a killed parent cannot remove its folder
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    eventually(gone(pid), within_s=5, saying="the server follows its parent")
