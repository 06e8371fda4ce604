"""Flower shows a fastq worker like any other, and its buttons work. The same tests pass for `celery worker`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.apm.agents import is_installed
from tests.apm.fix_flower import Flower
from tests.eventually import eventually
from tests.fix_lab import Lab, wait_state
from tests.fix_worker import WorkerProcess

pytestmark = pytest.mark.skipif(not is_installed("flower"), reason="flower not installed: `make apm` brings it")


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """One for all tests of an engine."""
    return module_lab


@pytest.fixture(scope="module")
def worker(lab: Lab) -> WorkerProcess:
    """Sends heartbeats, and no events of tasks until Flower asks for them."""
    return lab.worker(concurrency=2, quiet=("--without-mingle", "--without-gossip"))


@pytest.fixture(scope="module")
def flower(lab: Lab, worker: WorkerProcess) -> Iterator[Flower]:
    """Has seen the worker."""
    with contextlib.closing(Flower(lab)) as found:
        eventually(lambda: found.get("/api/workers?status=1").get(worker.node), within_s=20)
        eventually(lambda: lab.run("ret", 0) == 0 and found.get("/api/tasks"), within_s=20)
        yield found


def about(flower: Flower, worker: WorkerProcess) -> dict[str, Any]:
    """All that Flower finds out about the worker when asked to look."""
    return dict(flower.get(f"/api/workers?refresh=1&workername={worker.node}")[worker.node])


def pool(flower: Flower, worker: WorkerProcess) -> list[int]:
    """The processes that Flower shows."""
    return sorted(about(flower, worker)["stats"]["pool"]["processes"])


def queues(flower: Flower, worker: WorkerProcess) -> set[str]:
    """The queues that Flower shows."""
    return {queue["name"] for queue in about(flower, worker)["active_queues"]}


def task(flower: Flower, task_id: str, state: str) -> dict[str, Any]:
    """What Flower shows of a task that has come to `state`."""
    found: dict[str, Any] = {}

    def has_come() -> bool:
        status, _text = flower.ask(f"/api/task/info/{task_id}")
        if status != 200:
            return False
        found.update(flower.get(f"/api/task/info/{task_id}"))
        return bool(found["state"] == state)

    eventually(has_come, within_s=15, saying=f"{task_id} is {state}, shown is {found}")
    return found


# ---------------------------------------------------------------------------- what is shown


def test_pool_queues_settings_and_tasks_are_shown(flower: Flower, worker: WorkerProcess) -> None:
    shown = about(flower, worker)
    stats = shown["stats"]
    assert stats["pool"]["max-concurrency"] == 2
    assert len(stats["pool"]["processes"]) == 2
    assert set(stats["pool"]["processes"]) <= set(worker.children)
    assert stats["pid"] == worker.pid
    assert {"total", "broker", "prefetch_count", "clock", "uptime", "rusage"} <= set(stats)
    assert stats["broker"]["transport"] == "redis"
    assert queues(flower, worker) == {"celery"}
    assert "t.add" in " ".join(shown["registered"])
    assert shown["conf"]["broker_url"].startswith("redis://")
    assert [shown[name] for name in ("active", "reserved", "scheduled", "revoked")] == [[], [], [], []]


def test_its_pages_show_the_worker(flower: Flower, worker: WorkerProcess) -> None:
    for page in ("/workers", f"/worker/{worker.node}", "/tasks", "/broker"):
        status, text = flower.ask(page)
        assert status == 200, f"{page}: {text}"
    assert worker.node in flower.ask("/workers")[1]
    rows = flower.get("/workers?json=1")["data"]
    shown = next(row for row in rows if row["hostname"] == worker.node)
    assert shown["status"] is True
    assert {"active", "processed", "loadavg", "sw_ident", "sw_ver", "sw_sys", "pid", "freq"} <= set(shown)


def test_a_success_is_shown_with_times_and_result(lab: Lab, flower: Flower, worker: WorkerProcess) -> None:
    sent = lab.send("add", 2, 3)
    shown = task(flower, sent.id, "SUCCESS")
    assert (shown["name"], shown["result"], shown["worker"]) == ("t.add", "5", worker.node)
    assert shown["received"] <= shown["started"] <= shown["succeeded"]
    assert 0 <= shown["runtime"] < 5
    assert (shown["args"], shown["kwargs"], shown["retries"]) == ("(2, 3)", "{}", 0)


def test_a_failure_is_shown_with_its_traceback(lab: Lab, flower: Flower) -> None:
    shown = task(flower, lab.send("fail").id, "FAILURE")
    assert "CustomError('boom', 7)" in shown["exception"]
    assert "in fail" in shown["traceback"]
    assert shown["failed"]


def test_a_retry_is_shown(lab: Lab, flower: Flower) -> None:
    shown = task(flower, lab.send("retry", 1, 0.5).id, "SUCCESS")
    assert shown["retried"]
    assert shown["retries"] == 1
    assert "CustomError('again', 0)" in shown["exception"]


def test_a_parent_and_its_children_are_shown(lab: Lab, flower: Flower) -> None:
    sent = lab.send("spawn", 1, 2)
    assert sent.get(timeout=15) == "spawned"
    shown = task(flower, sent.id, "SUCCESS")
    child = task(flower, sent.children[0].id, "SUCCESS")
    assert child["parent"] == child["parent_id"] == shown["uuid"]
    assert child["root_id"] == sent.id


def test_the_list_of_tasks_can_be_filtered(lab: Lab, flower: Flower, worker: WorkerProcess) -> None:
    task(flower, lab.send("xsum", [1, 2]).id, "SUCCESS")
    found = flower.get(f"/api/tasks?taskname=t.xsum&state=SUCCESS&workername={worker.node}")
    assert [row["result"] for row in found.values()] == ["3"]
    assert "t.xsum" in flower.get("/api/task/types")["task-types"]


def test_a_task_sent_by_flower_runs(flower: Flower) -> None:
    status, text = flower.ask("/api/task/send-task/t.add", post=True)
    assert (status, "task-id" in text) == (200, True)


# ---------------------------------------------------------------------------- buttons


def test_the_pool_grows_and_shrinks(flower: Flower, worker: WorkerProcess) -> None:
    assert "Growing" in flower.press(f"/api/worker/pool/grow/{worker.node}", n=2)
    eventually(lambda: len(pool(flower, worker)) == 4, within_s=15)
    assert "Shrinking" in flower.press(f"/api/worker/pool/shrink/{worker.node}", n=2)
    eventually(lambda: len(pool(flower, worker)) == 2, within_s=15)


def test_a_queue_is_consumed_and_no_longer(lab: Lab, flower: Flower, worker: WorkerProcess) -> None:
    assert "more" in flower.press(f"/api/worker/queue/add-consumer/{worker.node}", queue="more")
    eventually(lambda: queues(flower, worker) == {"celery", "more"})
    assert lab.send("ret", "there", queue="more").get(timeout=15) == "there"
    flower.press(f"/api/worker/queue/cancel-consumer/{worker.node}", queue="more")
    eventually(lambda: queues(flower, worker) == {"celery"})


def test_limits_are_set(flower: Flower, worker: WorkerProcess) -> None:
    about(flower, worker)
    said = flower.press("/api/task/rate-limit/t.size", workername=worker.node, ratelimit="200/m")
    assert said == "new rate limit set successfully"
    said = flower.press("/api/task/timeout/t.size", workername=worker.node, hard=30, soft=20)
    assert said == "time limits set successfully"
    assert any("t.size [rate_limit=200/m]" in line for line in about(flower, worker)["registered"])


def test_a_waiting_task_is_revoked(lab: Lab, flower: Flower, worker: WorkerProcess) -> None:
    sent = lab.send("mark", "never", countdown=3)
    eventually(lambda: about(flower, worker)["scheduled"], within_s=10)
    assert sent.id in flower.press(f"/api/task/revoke/{sent.id}")
    eventually(lambda: sent.id in about(flower, worker)["revoked"])
    wait_state(lab, sent.id, "REVOKED")
    task(flower, sent.id, "REVOKED")
    assert not lab.ledger.count("ran", "never")


def test_a_running_task_is_terminated(lab: Lab, flower: Flower, worker: WorkerProcess) -> None:
    sent = lab.send("hold", "ended")
    eventually(lambda: lab.ledger.count("start", "ended"))
    assert [row["id"] for row in about(flower, worker)["active"]] == [sent.id]
    flower.press(f"/api/task/revoke/{sent.id}", terminate="true", signal="SIGKILL")
    wait_state(lab, sent.id, "REVOKED")
    eventually(lambda: len(pool(flower, worker)) == 2, within_s=15)
    assert not lab.ledger.count("end", "ended")


def test_what_the_worker_refuses_is_said(flower: Flower, worker: WorkerProcess) -> None:
    status, text = flower.ask(f"/api/worker/pool/restart/{worker.node}", post=True)
    assert (status, "Pool restarts not enabled" in text) == (403, True), text
    status, text = flower.ask(f"/api/worker/pool/autoscale/{worker.node}", min=1, max=3)
    assert (status, "Autoscale not enabled" in text) == (403, True), text


def test_the_worker_shuts_down(flower: Flower, worker: WorkerProcess) -> None:
    assert flower.press(f"/api/worker/shutdown/{worker.node}") == "Shutting down!"
    assert worker.wait() == 0
    eventually(lambda: flower.get("/api/workers?status=1")[worker.node] is False)
