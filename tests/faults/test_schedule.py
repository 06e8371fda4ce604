"""A schedule under fire: leaders are killed and paused, the server is killed; each due time is one message."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fastq.app.leader import firing_id
from tests.eventually import NotInTime, eventually
from tests.fix_redis import RedisServer
from tests.fix_worker import ROOT, WorkerProcess

MODULE = "tests.apps.native_schedule"

#: Seconds of fire, and what falls upon whom.
FIRE_S = float(os.environ.get("FASTQ_TEST_FIRE_S", "180"))
BLOWS = ("kill", "pause", "server", "end")


class Beats:
    """Several `fastq beat`, always as many."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        model = WorkerProcess(engine="fastq", folder=folder, broker=server.url(), app=MODULE)
        self.env = model.env
        self.running: list[subprocess.Popen[bytes]] = []

    def fill(self, count: int = 3) -> None:
        self.running = [beat for beat in self.running if beat.poll() is None]
        while len(self.running) < count:
            with (self.folder / "beat.log").open("ab") as log:
                command = [sys.executable, "-m", "fastq", "-A", MODULE, "beat"]
                self.running.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=self.env))

    def close(self) -> None:
        for beat in self.running:
            if beat.poll() is None:
                beat.send_signal(signal.SIGCONT)
                beat.kill()
            beat.wait(10)


def leader(server: RedisServer) -> int:
    """The process that sends now."""
    client = server.client()
    try:
        holder: Any = client.get("fastq:schedule:{scheduled}")
    finally:
        client.close()
    return int(holder.decode().rpartition(":")[2]) if holder else 0


def ids(server: RedisServer) -> list[str]:
    """Of all messages, in the order in which they were sent."""
    client = server.client()
    found: Any = client.lrange("celery", 0, -1)
    client.close()
    return [json.loads(raw)["headers"]["id"] for raw in reversed(found)]


@pytest.mark.slow
@pytest.mark.timeout(FIRE_S + 120)
def test_each_due_time_is_one_message(aof_server: RedisServer, tmp_path: Path) -> None:
    beats, lot = Beats(aof_server, tmp_path), random.Random(int(os.environ.get("FASTQ_TEST_SEED", "1")))
    beats.fill()
    done: list[str] = []
    try:
        until = time.monotonic() + FIRE_S
        while time.monotonic() < until:
            victim = eventually(lambda: leader(aof_server), within_s=30)
            time.sleep(lot.uniform(0.0, 1.5))
            done.append(lot.choice(BLOWS))
            strike(done[-1], victim, aof_server, beats)
            beats.fill()
        eventually(lambda: leader(aof_server), within_s=30)
        before = len(ids(aof_server))
        eventually(lambda: len(ids(aof_server)) > before, within_s=10)
    except NotInTime as late:
        raise AssertionError(f"after {done}: {(tmp_path / 'beat.log').read_text()[-5000:]}") from late
    finally:
        beats.close()
    assert_each_once(aof_server)
    assert "Traceback" not in (tmp_path / "beat.log").read_text()


def strike(blow: str, victim: int, server: RedisServer, beats: Beats) -> None:
    """Kill the leader, pause it for longer than its lead lives, kill the server, or end the leader in order."""
    if blow == "server":
        server.kill()
        time.sleep(0.3)
        server.start()
    elif any(beat.pid == victim and beat.poll() is None for beat in beats.running):
        os.kill(victim, {"kill": signal.SIGKILL, "pause": signal.SIGSTOP, "end": signal.SIGTERM}[blow])
        if blow == "pause":
            eventually(lambda: leader(server) not in (0, victim), within_s=30)
            os.kill(victim, signal.SIGCONT)


def assert_each_once(server: RedisServer) -> None:
    """From the first due time of `tick` to the last, each is one message, and there is no other."""
    client = server.client()
    state: Any = client.hget("fastq:schedule:{scheduled}:entries", "tick")
    client.close()
    sent, last_ms = ids(server), int(state.split()[0])
    assert len(sent) == len(set(sent))
    due_ms, known = last_ms, set(sent)
    ticks = 0
    while firing_id("scheduled", "tick", due_ms) in known:
        due_ms -= 200
        ticks += 1
    # What is not `tick` is the entry of half a second, which sends the newest only.
    others = [firing_id("scheduled", "of a setting", ms) for ms in range(due_ms // 500 * 500, last_ms + 1000, 500)]
    assert ticks + len(known & set(others)) == len(sent), f"{ticks} of {len(sent)}: there is a gap"
