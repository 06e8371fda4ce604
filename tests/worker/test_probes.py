"""Probes, metrics and what looks inside, of real workers: while they are busy, stuck, cut off, and stopping."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.eventually import eventually
from tests.fix_lab import Lab
from tests.fix_proxy import Proxy
from tests.fix_redis import free_port
from tests.fix_worker import ROOT, WorkerProcess

pytestmark = pytest.mark.fastq_only("a stock worker has no probes, and counts nothing")


class Served:
    """A worker with `--http`."""

    def __init__(self, lab: Lab, *args: str, **options: Any) -> None:
        self.port = free_port()
        self.worker: WorkerProcess = lab.worker(
            f"--http=127.0.0.1:{self.port}", *args, name=f"probed{self.port}", **options
        )

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()

    def probe(self, name: str) -> int:
        return self.get(f"/{name}")[0]

    def value(self, name: str, **labels: str) -> float:
        families: Any = text_string_to_metric_families(self.get("/metrics")[1])
        found: float = sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
        return found

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/status.json")[1])
        return found

    def running(self) -> list[dict[str, Any]]:
        return [child["running"] for child in self.status()["children"] if child["running"]]


def fastq(*args: str, extra: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command line, run to its end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(extra or {})}
    return subprocess.run(
        [sys.executable, "-m", "fastq", *args], capture_output=True, text=True, env=environment, cwd=ROOT, check=False
    )


@pytest.fixture
def hold(lab: Lab) -> Callable[[str], Any]:
    def start(token: str) -> Any:
        result = lab.send("hold", token)
        eventually(lambda: lab.ledger.count("start", token))
        return result

    return start


def test_all_answer_while_every_child_is_busy(lab: Lab, hold: Callable[[str], Any]) -> None:
    served = Served(lab, concurrency=1)
    held = hold("a")
    assert [served.probe(name) for name in ("livez", "readyz", "startupz")] == [200, 200, 200]
    [running] = served.running()
    assert (running["task"], running["id"]) == ("t.hold", held.id)
    assert served.value("fastq_children", state="busy") == 1
    name = served.worker.node
    assert fastq("ping", "--ready", "-n", name).stdout == f"{name}: OK\n"
    assert held.id in fastq("status", "-n", name).stdout
    assert held.id in fastq("top", "--once", "-n", name).stdout
    stacks = fastq("stacks", "-n", name).stdout
    assert held.id in stacks
    assert "in pass_gate" in stacks
    assert "engine" not in stacks
    everybody = fastq("stacks", "--all", "-n", name).stdout
    assert "in _wait" in everybody
    assert "in serve" in everybody
    lab.ledger.open_gate("a")
    assert held.get(timeout=10) == "a"


def test_term_turns_ready_at_once_and_live_stays(lab: Lab, hold: Callable[[str], Any]) -> None:
    served = Served(lab, concurrency=1)
    held = hold("a")
    served.worker.send(signal.SIGTERM)
    eventually(lambda: served.probe("readyz") == 503, within_s=1)
    assert served.probe("livez") == 200
    assert fastq("ping", "-n", served.worker.node).returncode == 0
    refused = fastq("ping", "--ready", "-n", served.worker.node)
    assert (refused.returncode, "stopping" in refused.stdout) == (1, True)
    lab.ledger.open_gate("a")
    assert held.get(timeout=10) == "a"


def test_a_stuck_loop_is_not_live(lab: Lab, hold: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # A second of a stopped process is as good as twenty: the limit is that of the one who looks.
    from fastq.monitor import local

    monkeypatch.setattr(local, "STUCK_S", 1.5)
    served = Served(lab, concurrency=1)
    [seen] = local.local_workers(served.worker.node)
    assert seen.why_not_live() == ""
    os.kill(served.worker.pid, signal.SIGSTOP)
    try:
        eventually(lambda: "no progress" in seen.why_not_live(), within_s=5)
        assert "waits in the kernel" in fastq("stacks", "--all", "-n", served.worker.node).stdout
    finally:
        os.kill(served.worker.pid, signal.SIGCONT)
    eventually(lambda: seen.why_not_live() == "", within_s=5)


def test_counters_are_exact_after_children_are_killed(lab: Lab) -> None:
    served = Served(lab, concurrency=2)
    sent = 0
    for round_number in range(3):
        results = [lab.send("add", number, 1) for number in range(40)]
        tokens = [f"{round_number}-{child}" for child in range(2)]
        for token in tokens:
            lab.send("hold", token)
        for token in tokens:
            eventually(lambda token=token: lab.ledger.count("start", token))  # type: ignore[misc]
        for pid in served.worker.children:
            os.kill(pid, signal.SIGKILL)
        for result in results:
            result.get(timeout=15)
        sent += len(results)
    eventually(lambda: served.value("fastq_tasks_total", task="t.hold", end="lost") == 6, within_s=15)
    eventually(lambda: served.value("fastq_tasks_total", task="t.add") == sent, within_s=5)
    assert served.value("fastq_task_run_seconds_count", task="t.add") == sent
    assert served.value("fastq_task_run_seconds_bucket", task="t.add", le="+Inf") == sent
    assert served.value("fastq_child_ends_total", cause="signal") == 6
    eventually(lambda: served.value("fastq_queue_settled_total") == sent + 6, within_s=5)
    assert served.value("fastq_queue_claimed_total") == sent + 6


def test_each_way_to_end_is_counted_on_both_ways_to_run(lab: Lab) -> None:
    served = Served(lab, concurrency=1)
    for name in ("fail", "ret", "add"):
        for _ in range(2):
            result = lab.send(name, *((1, 2) if name == "add" else (1,)))
            result.get(timeout=10, propagate=False)
    lab.send("retry", 2).get(timeout=15, propagate=False)
    lab.send("ignore", "x")
    lab.send("ret", 1, expires=-5)
    lab.app.send_task("t.nobody")

    def count(task: str, end: str) -> float:
        return served.value("fastq_tasks_total", task=task, end=end)

    eventually(lambda: count("t.ignore", "ignored") == 1 and count("_other", "unknown") == 1, within_s=10)
    assert count("t.fail", "failed") == 2
    assert (count("t.ret", "succeeded"), count("t.ret", "expired")) == (2, 1)
    assert (count("t.retry", "retried"), count("t.retry", "succeeded")) == (2, 1)


def test_a_socket_of_unix_serves_too_and_goes_with_its_worker(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "w.sock"
    worker = lab.worker(f"--http=unix:{path}", name="unixprobed")
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
        assert b"200 OK" in client.recv(4096)
    worker.stop()
    assert not path.exists()


def test_a_port_in_use_is_one_line_and_2_before_anything(lab: Lab) -> None:
    served = Served(lab, concurrency=1)
    again = lab.worker(f"--http=127.0.0.1:{served.port}", ready=False, name="second")
    assert again.wait() == 2
    [line] = again.log_lines("cannot listen")
    assert line == f"fastq: --http: cannot listen on 127.0.0.1:{served.port}: Address already in use"


def test_slow_and_wrong_clients_do_not_matter(lab: Lab) -> None:
    served = Served(lab, concurrency=1)
    idle = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(20)]
    assert served.probe("livez") == 200
    assert served.probe("nothing") == 404
    idle[0].sendall(b"POST / HTTP/1.1\r\n\r\n")
    assert b" 405 " in idle[0].recv(4096)
    idle[1].sendall(b"\x16\x03\x01 hello\r\n\r\n")
    assert b" 400 " in idle[1].recv(4096)
    for sock in idle:
        sock.close()


def test_lines_of_tasks_are_json_with_the_task(lab: Lab) -> None:
    worker = lab.worker("--log-format=json", concurrency=1)
    result = lab.send("say", "from inside")
    result.get(timeout=10)
    worker.wait_log("from inside")
    lines = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    said = [line for line in lines if "from inside" in line["message"]]
    assert {(line["task_id"], line["task_name"]) for line in said} == {(result.id, "t.say")}
    assert {line["process"] for line in said} == {"ForkPoolWorker-1"}
    about = [line for line in lines if line.get("task_id") == result.id]
    assert {"MainProcess", "ForkPoolWorker-1"} <= {line["process"] for line in about}


def cpu_s(*command: str) -> float:
    """CPU time of a program, the least of three runs: others are busy on this machine."""

    def once() -> float:
        before = os.times()
        subprocess.run([sys.executable, *command], capture_output=True, check=True, cwd=ROOT)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    return min(once() for _ in range(3))


def test_a_probe_takes_little_more_than_an_interpreter(lab: Lab) -> None:
    worker = lab.worker(name=f"quickprobe{os.getpid()}")
    assert cpu_s("-m", "fastq", "ping", "-n", worker.node) - cpu_s("-c", "pass") < 0.08


def test_readiness_follows_the_broker(proxy: Proxy, lab: Lab) -> None:
    lab.use(broker=proxy.url(number=lab.db.number), backend=lab.db.url)
    served = Served(lab, concurrency=1)
    # The broker was there first; children may take a moment longer.
    eventually(lambda: served.probe("readyz") == 200, within_s=10)
    proxy.refuse()
    proxy.cut()
    eventually(lambda: served.probe("readyz") == 503, within_s=5)
    assert served.probe("livez") == 200
    assert served.value("fastq_broker_up") == 0
    assert "no connection to the broker" in fastq("ping", "--ready", "-n", served.worker.node).stdout
    proxy.accept()
    eventually(lambda: served.probe("readyz") == 200, within_s=15)
    eventually(lambda: served.value("fastq_broker_reconnects_total") == 1, within_s=5)
