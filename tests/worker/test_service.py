"""What systemd is told: sd_notify's datagrams, received as systemd receives them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.fix_lab import Lab
from tests.fix_worker import WorkerProcess

pytestmark = pytest.mark.fastq_only("Celery tells systemd nothing")


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[str] = []
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.setblocking(False)

    def listen(self) -> list[str]:
        """First lines of all messages so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard.append(self._sock.recv(4096).decode())
        return [message.splitlines()[0] for message in self.heard]

    def wait(self, *expected: str) -> None:
        """Wait until these were said last, in this order, watchdog's messages left out."""
        eventually(lambda: [line for line in self.listen() if line != "WATCHDOG=1"] == list(expected), within_s=20)

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    # Not in tmp_path: the name of a socket has to be short.
    path = Path(f"/tmp/fastq-notify-{os.getpid()}-{os.urandom(4).hex()}")
    made = Systemd(path)
    yield made
    made.close()
    path.unlink()


def start(lab: Lab, systemd: Systemd, **env: str) -> WorkerProcess:
    lab.module = "tests.apps.changing"
    write(lab, broken=False)
    return lab.worker(env={"NOTIFY_SOCKET": str(systemd.path), **env})


def write(lab: Lab, *, broken: bool) -> None:
    (lab.folder / "code.json").write_text(json.dumps({"version": 1, "tasks": ["version", "hold"], "broken": broken}))


def test_ready_reloading_ready_stopping(lab: Lab, systemd: Systemd) -> None:
    worker = start(lab, systemd)
    systemd.wait("READY=1")
    worker.send(signal.SIGHUP)
    systemd.wait("READY=1", "RELOADING=1", "READY=1")
    assert "MONOTONIC_USEC=" in systemd.heard[1]
    assert worker.stop() == 0
    systemd.wait("READY=1", "RELOADING=1", "READY=1", "STOPPING=1")


def test_a_reload_that_fails_ends_too(lab: Lab, systemd: Systemd) -> None:
    worker = start(lab, systemd)
    systemd.wait("READY=1")
    write(lab, broken=True)
    worker.send(signal.SIGHUP)
    systemd.wait("READY=1", "RELOADING=1", "READY=1")


def test_not_ready_before_the_broker_is_there(lab: Lab, systemd: Systemd) -> None:
    broker, lab.broker = lab.broker, "redis://127.0.0.1:1/0"
    lab.module = "tests.apps.changing"
    write(lab, broken=False)
    worker = lab.worker(env={"NOTIFY_SOCKET": str(systemd.path)}, ready=False)
    worker.wait_log("Cannot connect")
    assert systemd.listen() == []
    lab.broker = broker


def test_the_watchdog_hears_of_a_loop_that_works(lab: Lab, systemd: Systemd) -> None:
    worker = start(lab, systemd, WATCHDOG_USEC="400000")
    eventually(lambda: systemd.listen().count("WATCHDOG=1") >= 3)
    worker.send(signal.SIGSTOP)
    try:
        before = eventually(lambda: systemd.listen().count("WATCHDOG=1"))
        with pytest.raises(AssertionError):
            eventually(lambda: systemd.listen().count("WATCHDOG=1") > before, within_s=1)
    finally:
        worker.send(signal.SIGCONT)
    eventually(lambda: systemd.listen().count("WATCHDOG=1") > before)
