"""Remote control by Celery's own clients: every command, whom it is for, and what must not disturb a worker."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import psutil
import pytest
from celery.app.control import Control

from tests.eventually import eventually
from tests.fix_lab import Lab
from tests.fix_proxy import Proxy
from tests.fix_worker import ROOT, WorkerProcess

FAR = datetime(2040, 1, 1, tzinfo=timezone.utc)

#: Ids of the messages in the scene.
RUNNING, RESERVED, SCHEDULED = "id-running", "id-reserved", "id-scheduled"


def ask(lab: Lab, command: str, *, node: str = "w1@tests", **arguments: Any) -> Any:
    """What one node replies. A client that has once waited in vain is deaf for its next answer, so each is new."""
    control: Control = lab.client().control
    replies = control.broadcast(command, arguments=arguments, reply=True, timeout=10, limit=1, destination=[node])
    assert replies, f"{node} has not answered {command}"
    (reply,) = replies
    return reply[node]


def everybody(lab: Lab, command: str = "ping", *, count: int = 1, **how: Any) -> dict[str, Any]:
    """What nodes reply: as many as are expected, or whoever does in a moment if that is nobody."""
    limits: dict[str, Any] = {"timeout": 10, "limit": count} if count else {"timeout": 0.3}
    replies = lab.client().control.broadcast(command, reply=True, **limits, **how)
    return {node: answer for reply in replies or [] for node, answer in reply.items()}


def shape(value: Any) -> Any:
    """Keys in their order, and types."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__


def scene(lab: Lab) -> WorkerProcess:
    """One task runs, one is reserved, one waits for its time."""
    worker = lab.worker("--time-limit", "600")
    lab.task("add").apply_async((1, 2), task_id=SCHEDULED, eta=FAR)
    lab.task("hold").apply_async(("gate",), task_id=RUNNING)
    eventually(lambda: lab.ledger.tokens("start"))
    lab.task("echo").apply_async((1, "two"), {"three": [3]}, task_id=RESERVED, shadow="known.as")
    eventually(lambda: ask(lab, "reserved"))
    eventually(lambda: ask(lab, "scheduled"))
    return worker


@pytest.fixture(scope="module")
def busy(module_lab: Lab) -> Iterator[Lab]:
    """A worker in the middle of things, which the questions of this module change nothing of."""
    scene(module_lab)
    yield module_lab
    module_lab.ledger.open_gate("gate")
    module_lab.db.client.delete("celery")


# ---------------------------------------------------------------------------- inspect


def test_active_tasks_are_told_with_their_process_and_start(busy: Lab) -> None:
    (info,) = ask(busy, "active")
    assert list(info) == [
        *("id", "name", "args", "kwargs", "type", "hostname", "time_start", "acknowledged", "delivery_info"),
        "worker_pid",
    ]
    assert (info["id"], info["name"], info["args"], info["kwargs"]) == (RUNNING, "t.hold", ["gate"], {})
    assert abs(info["time_start"] - time.time()) < 60
    assert info["acknowledged"] is True
    assert info["worker_pid"] in busy.workers[0].children
    assert info["delivery_info"] == {"exchange": "", "routing_key": "celery", "priority": 0, "redelivered": False}


def test_safe_requests_show_their_arguments_as_texts(busy: Lab) -> None:
    (info,) = ask(busy, "active", safe=True)
    assert (info["args"], info["kwargs"]) == ("('gate',)", "{}")


def test_reserved_tasks_are_told_without_those_that_run(busy: Lab) -> None:
    (info,) = ask(busy, "reserved")
    assert (info["id"], info["name"], info["type"]) == (RESERVED, "known.as", "t.echo")
    assert (info["args"], info["kwargs"]) == ([1, "two"], {"three": [3]})
    assert (info["time_start"], info["acknowledged"], info["worker_pid"]) == (None, False, None)


def test_scheduled_tasks_are_told_with_their_times(busy: Lab) -> None:
    (entry,) = ask(busy, "scheduled")
    assert (entry["eta"], entry["priority"]) == ("2040-01-01T00:00:00+00:00", 6)
    assert (entry["request"]["id"], entry["request"]["args"]) == (SCHEDULED, [1, 2])


def test_tasks_are_found_by_their_ids(busy: Lab) -> None:
    found = ask(busy, "query_task", ids=[RUNNING, RESERVED, SCHEDULED, "id-nobody"])
    assert {task: state for task, (state, _info) in found.items()} == {
        RUNNING: "active",
        RESERVED: "reserved",
        SCHEDULED: "scheduled",
    }
    assert ask(busy, "query_task", ids=SCHEDULED)[SCHEDULED][1]["name"] == "t.add"


def test_stats_have_every_key_of_celerys(busy: Lab) -> None:
    stats = ask(busy, "stats")
    assert list(stats) == ["total", "pid", "clock", "uptime", "pool", "broker", "prefetch_count", "rusage"]
    assert stats["total"] == {"t.hold": 1}
    assert stats["pid"] == busy.workers[0].pid
    assert isinstance(stats["clock"], str)
    assert stats["prefetch_count"] == 5
    pool = stats["pool"]
    assert pool["max-concurrency"] == 1
    assert set(pool["processes"]) <= set(busy.workers[0].children)
    assert pool["timeouts"] == [0, 600.0]
    assert list(pool["writes"]) == ["total", "avg", "all", "raw", "strategy", "inqueues"]
    assert stats["broker"]["transport"] == "redis"
    assert "password" not in stats["broker"]


def test_registered_tasks_have_the_attributes_that_were_asked_for(busy: Lab) -> None:
    names = ask(busy, "registered")
    assert names == sorted(names)
    assert "t.add" in names
    assert "t.add [max_retries=3]" in ask(busy, "registered", taskinfoitems=["max_retries"])
    assert not [name for name in names if name.startswith("celery.")]
    assert "celery.chord" in ask(busy, "registered", builtins=True)


def test_settings_are_told_without_secrets(busy: Lab) -> None:
    told = ask(busy, "conf")
    assert "********" in told["broker_url"]
    assert ask(busy, "conf", with_defaults=True)["task_default_queue"] == "celery"
    assert "celery:5" in ask(busy, "report")["ok"]


def test_the_rest_of_inspect(busy: Lab) -> None:
    assert ask(busy, "ping") == {"ok": "pong"}
    assert ask(busy, "revoked") == []
    assert ask(busy, "clock")["clock"] > 0
    assert [queue["name"] for queue in ask(busy, "active_queues")] == ["celery"]
    assert ask(busy, "memsample").endswith("MB")
    assert "rss (end)" in ask(busy, "memdump")
    assert "ImportError" in ask(busy, "objgraph")["error"]


def test_a_worker_answers_hello_of_others_not_its_own(busy: Lab) -> None:
    before = ask(busy, "clock")["clock"]
    answer = ask(busy, "hello", from_node="other@tests", revoked={})
    assert list(answer) == ["revoked", "clock"]
    assert answer["clock"] > before
    assert ask(busy, "hello", from_node="w1@tests") is None


def test_commands_that_nobody_knows_are_answered_with_celerys_errors(busy: Lab) -> None:
    assert ask(busy, "no_such") == {"error": "KeyError('no_such')"}
    error = ask(busy, "active_queues", x=1)["error"]
    assert error == "TypeError(\"active_queues() got an unexpected keyword argument 'x'\")"
    assert ask(busy, "autoscale", max=3) == {"error": "ValueError('Autoscale not enabled')"}


@pytest.mark.fastq_only("it is the comparison")
def test_every_reply_has_the_shape_of_a_stock_workers(busy: Lab, other_lab: Lab) -> None:
    other_lab.engine = "celery"
    scene(other_lab)
    told = []
    for command, arguments in SAME_SHAPE:
        ours, theirs = ask(busy, command, **arguments), ask(other_lab, command, **arguments)
        if shape(ours) != shape(theirs):
            told.append(f"{command} {arguments}\n  ours   {ours}\n  theirs {theirs}")
    other_lab.ledger.open_gate("gate")
    other_lab.db.client.delete("celery")
    assert not told, "\n".join(told)


SAME_SHAPE: list[tuple[str, dict[str, Any]]] = [
    ("active", {}),
    ("active", {"safe": True}),
    ("reserved", {}),
    ("scheduled", {}),
    ("dump_active", {}),
    ("dump_reserved", {}),
    ("dump_schedule", {}),
    ("query_task", {"ids": [RUNNING, RESERVED, SCHEDULED]}),
    ("revoked", {}),
    ("dump_revoked", {}),
    ("registered", {}),
    ("registered", {"taskinfoitems": ["rate_limit", "max_retries", "_private"], "builtins": True}),
    ("dump_tasks", {}),
    ("stats", {}),
    ("active_queues", {}),
    ("report", {}),
    ("ping", {}),
    ("clock", {}),
    ("memsample", {}),
    ("memdump", {}),
    ("objgraph", {}),
    ("hello", {"from_node": "other@tests"}),
    ("hello", {"from_node": "w1@tests"}),
    ("heartbeat", {}),
    ("no_such", {}),
    ("ping", {"extra": 1}),
    ("report", {"extra": 1}),
    ("rate_limit", {"task_name": "t.nobody", "rate_limit": "1/s"}),
    ("time_limit", {"task_name": "t.nobody", "soft": 1}),
    ("time_limit", {}),
    ("pool_restart", {}),
    ("autoscale", {"max": 3}),
    ("revoke", {"task_id": ["id-nobody"], "terminate": True}),
    ("terminate", {"task_id": "id-nobody", "signal": "KILL"}),
    ("add_consumer", {}),
    ("cancel_consumer", {"queue": "nobody"}),
]


# ---------------------------------------------------------------------------- the command line


def celery(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Celery's own command."""
    environment = lab.workers[0].env
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", lab.module, *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_celery_command_sees_the_worker(busy: Lab) -> None:
    status = celery(busy, "status", "--timeout", "5")
    assert "w1@tests" in status.stdout
    assert "OK" in status.stdout
    assert status.returncode == 0
    active = celery(busy, "inspect", "active", "-d", "w1@tests", "--timeout", "5", "--json")
    assert json.loads(active.stdout)["w1@tests"][0]["id"] == RUNNING
    control = celery(busy, "control", "-d", "w1@tests", "--timeout", "5", "time_limit", "t.nobody", "1", "2")
    assert "unknown task" in control.stdout


# ---------------------------------------------------------------------------- for whom


def test_commands_reach_whom_they_are_for(busy: Lab) -> None:
    pong = {"w1@tests": {"ok": "pong"}}
    assert everybody(busy) == pong
    assert everybody(busy, destination=["w1@tests", "x@tests"]) == pong
    assert everybody(busy, destination=["x@tests"], count=0) == {}
    assert everybody(busy, pattern="w*@tests", matcher="glob") == pong
    assert everybody(busy, pattern="x*", matcher="glob", count=0) == {}
    assert everybody(busy, pattern="w[0-9]@", matcher="pcre") == pong
    assert everybody(busy, pattern="tests", matcher="pcre", count=0) == {}
    assert everybody(busy, pattern="x*") == pong, "a pattern without a matcher is no condition"


def publish(lab: Lab, data: bytes) -> None:
    lab.db.client.publish(f"/{lab.db.number}.celery.pidbox", data)


def envelope(told: Any, **changes: Any) -> bytes:
    """A control message, or something like one."""
    text = told if isinstance(told, bytes) else json.dumps(told).encode()
    message: dict[str, Any] = {
        "body": base64.b64encode(text).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"clock": 1},
        "properties": {"body_encoding": "base64", "delivery_info": {}, "delivery_tag": "t"},
    }
    return json.dumps({**message, **changes}).encode()


#: Every one of them has to leave the worker as it was.
MALFORMED = [
    b"",
    b"junk",
    b"null",
    b"[]",
    b"\xff\xfe",
    b"[" * 100_000,
    b"{}",
    envelope(b"junk"),
    envelope(None),
    envelope([]),
    envelope({}),
    envelope({"method": 1}),
    envelope({"method": "ping", "arguments": []}),
    envelope({"method": "ping", "arguments": {"state": 1}}),
    envelope({"method": "ping", "destination": 7}),
    envelope({"method": "ping", "pattern": "[", "matcher": "pcre"}),
    envelope({"method": "ping", "pattern": "x", "matcher": "no such"}),
    envelope({"method": "ping", "reply_to": {}}),
    envelope({"method": "ping", "reply_to": "x", "ticket": 1}),
    envelope({"method": "ping", "reply_to": {"exchange": "nobody", "routing_key": "nowhere"}}),
    envelope({"method": "revoke"}),
    envelope({"method": "pool_grow", "arguments": {"n": "many"}}),
    envelope({"method": "ping"}, headers=7),
    envelope({"method": "ping"}, headers={"clock": "late"}),
    envelope({"method": "ping"}, properties=None),
    envelope({"method": "ping"}, body=7),
    envelope({"method": "ping"}, **{"content-type": "application/x-python-serialize"}),
    envelope({"method": "ping"}, headers={"compression": "application/x-gzip"}),
]


@pytest.mark.fastq_only("some of them end the control of a stock worker")
def test_malformed_messages_are_logged_and_ignored(lab: Lab) -> None:
    worker = lab.worker()
    for data in MALFORMED:
        publish(lab, data)
    assert ask(lab, "ping") == {"ok": "pong"}
    assert lab.run("add", 1, 2) == 3
    assert worker.log_lines("remote control message was ignored")
    assert not worker.log_lines("could not be handled")


def test_remote_control_can_be_switched_off(lab: Lab) -> None:
    lab.use(worker_enable_remote_control=False)
    lab.worker()
    assert everybody(lab, count=0) == {}
    assert lab.run("add", 1, 2) == 3


def test_names_and_exchange_are_the_applications(lab: Lab) -> None:
    lab.use(control_exchange="zoo", broker_transport_options={"global_keyprefix": "p:", "fanout_prefix": False})
    lab.worker(name="h")
    assert list(everybody(lab)) == ["h@tests"]


@pytest.mark.fastq_only("a stock worker of this kind does not start")
def test_contradicting_control_settings_are_refused_at_the_start(lab: Lab) -> None:
    lab.use(control_queue_exclusive=True, control_queue_durable=True)
    worker = lab.worker(ready=False)
    assert worker.wait() == 1
    assert "control_queue_durable and control_queue_exclusive cannot both be True" in worker.log


def test_other_serializers_are_understood_and_used_for_replies(lab: Lab) -> None:
    lab.use(task_serializer="pickle", accept_content=["pickle"], result_serializer="pickle")
    lab.worker()
    assert everybody(lab) == {"w1@tests": {"ok": "pong"}}
    assert ask(lab, "query_task", ids=("x",)) == {}


def test_replies_come_again_after_the_broker_was_away(lab: Lab, proxy: Proxy) -> None:
    lab.use(broker=proxy.url(number=lab.db.number), backend=lab.db.url)
    worker = lab.worker()
    lab.use(broker=lab.db.url)
    assert ask(lab, "ping") == {"ok": "pong"}
    proxy.cut()
    eventually(lambda: everybody(lab, count=0), within_s=20)
    assert worker.stop() == 0, "it says goodbye through the proxy"


# ---------------------------------------------------------------------------- control


def test_a_worker_is_shut_down_and_replies_nothing(lab: Lab) -> None:
    worker = lab.worker()
    assert lab.client().control.broadcast("shutdown", reply=True, timeout=1) == []
    assert worker.wait() == 0


def test_changes_are_seen_by_those_who_look(lab: Lab) -> None:
    lab.worker()
    assert ask(lab, "add_consumer", queue="extra") == {"ok": "add consumer extra"}
    assert {queue["name"] for queue in eventually(lambda: ask(lab, "active_queues"))} >= {"celery"}
    eventually(lambda: [queue["name"] for queue in ask(lab, "active_queues")] == ["celery", "extra"])
    assert ask(lab, "rate_limit", task_name="t.add", rate_limit="100/m") == {"ok": "new rate limit set successfully"}
    assert "t.add [rate_limit=100/m]" in ask(lab, "registered")
    assert ask(lab, "pool_grow", n=1) == {"ok": "pool will grow"}
    eventually(lambda: len(ask(lab, "stats")["pool"]["processes"]) == 2)
    assert ask(lab, "revoke", task_id="id-1")["ok"] == "tasks {'id-1'} flagged as revoked"
    assert ask(lab, "revoked") == ["id-1"]
    assert ask(lab, "hello", from_node="other@tests")["revoked"] == ["id-1"]


def test_events_are_switched_with_celerys_words(lab: Lab) -> None:
    lab.worker(quiet=())
    for command, said in (
        ("enable_events", "task events enabled"),
        ("enable_events", "task events already enabled"),
        ("disable_events", "task events disabled"),
        ("disable_events", "task events already disabled"),
    ):
        assert ask(lab, command) == {"ok": said}
    assert ask(lab, "heartbeat") is None


@pytest.mark.fastq_only("a stock worker is the other one")
def test_a_mixed_fleet_answers_together(lab: Lab) -> None:
    lab.worker()
    lab.worker(engine="celery")
    pong = {"ok": "pong"}
    assert everybody(lab, count=2) == {"w1@tests": pong, "w2@tests": pong}
    revoked = everybody(lab, "revoke", count=2, arguments={"task_id": "id-2"})
    assert set(revoked) == {"w1@tests", "w2@tests"}
    assert all(everybody(lab, "revoked", count=2)[node] == ["id-2"] for node in revoked)


# ---------------------------------------------------------------------------- the application's own commands


@pytest.fixture
def controlled(lab: Lab) -> Lab:
    """A worker whose application has commands of its own."""
    lab.use("tests.apps.controlled")
    lab.worker(env={"FASTQ_WORKER_CONTROL_TIMEOUT": "1"})
    return lab


def test_commands_of_the_application_are_answered(controlled: Lab) -> None:
    me = {"node": "w1@tests", "app": "tests", "consumer": "w1@tests"}
    assert ask(controlled, "whoami") == me
    assert ask(controlled, "dump_whoami", more=1) == me
    assert ask(controlled, "double", n=4) == {"ok": 8}
    assert ask(controlled, "raises") == {"error": "LookupError('nothing there')"}
    assert ask(controlled, "current_prefetch_count") == {"prefetch_count": 4}
    assert "unexpected keyword argument" in ask(controlled, "double", x=4)["error"]


@pytest.mark.fastq_only("a stock worker would end, or hang")
def test_commands_of_the_application_cannot_harm_the_worker(controlled: Lab) -> None:
    worker = controlled.workers[0]
    assert "fastq has no state.consumer.pool.num_processes" in ask(controlled, "reaches_for_the_pool")["error"]
    assert "not JSON serializable" in ask(controlled, "unencodable")["error"]
    controlled.client().control.broadcast("hangs")
    assert ask(controlled, "ping") == {"ok": "pong"}
    assert ask(controlled, "double", n=4) == {"ok": 8}, "another process answers meanwhile"
    assert "TimeoutError" in ask(controlled, "hangs")["error"]
    assert "has ended" in ask(controlled, "exits")["error"]
    answering = ask(controlled, "answering_pid")
    os.kill(answering, signal.SIGKILL)
    assert eventually(lambda: ask(controlled, "answering_pid") != answering)
    assert controlled.run("add", 1, 2) == 3
    assert worker.stop() == 0


@pytest.mark.fastq_only("a stock worker answers by itself")
def test_who_answers_is_forked_anew_and_dies_with_the_engine(controlled: Lab) -> None:
    worker = controlled.workers[0]
    first = ask(controlled, "answering_pid")
    os.kill(worker.nursery, signal.SIGKILL)
    eventually(lambda: is_another_pid(ask(controlled, "answering_pid"), first), within_s=20)
    second = ask(controlled, "answering_pid")
    worker.send(signal.SIGHUP)
    eventually(lambda: is_another_pid(ask(controlled, "answering_pid"), second), within_s=20)
    third = ask(controlled, "answering_pid")
    controlled.client().control.broadcast("hangs")
    worker.kill()
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in (first, second, third)))


def is_another_pid(answer: object, before: int) -> bool:
    """Whether a process has answered, and not the one from before."""
    return isinstance(answer, int) and answer != before


def test_a_countdown_that_is_over_is_not_scheduled_any_more(lab: Lab) -> None:
    lab.worker()
    result = lab.task("add").apply_async((1, 2), eta=datetime.now(timezone.utc) + timedelta(seconds=1))
    eventually(lambda: ask(lab, "scheduled"))
    assert result.get(timeout=10) == 3
    assert ask(lab, "scheduled") == []
