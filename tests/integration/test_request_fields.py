"""`self.request`, field by field, against what `celery worker` shows for the same message."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.eventually import eventually
from tests.fix_lab import Lab, stored
from tests.push import NO_EMBED, call, envelope, push

#: What may differ between two runs of one message.
MAY_DIFFER = {"hostname", "time_start", "worker_pid", "pid", "on_ack"}


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """The engine under test and, on other queues of the same database, a stock worker."""
    module_lab.worker("-Q", "mine")
    module_lab.worker("-Q", "theirs", engine="celery")
    return module_lab


MESSAGES: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": lambda: call("t.view", 1, 2, k="v"),
    "priority": lambda: _property(call("t.view"), "priority", 6),
    "reply_to": lambda: _property(call("t.view"), "reply_to", "somewhere"),
    "expires": lambda: call("t.view", headers={"expires": "2099-01-01T00:00:00+00:00"}),
    "eta": lambda: call("t.view", headers={"eta": "2020-01-01T00:00:00+00:00"}),
    "naive eta": lambda: call("t.view", headers={"eta": "2020-01-01T00:00:00"}),
    "limits": lambda: call("t.view", headers={"timelimit": [30, 20.5]}),
    "family": lambda: call("t.view", headers={"root_id": "r", "parent_id": "p", "group": "g", "group_index": 3}),
    "retries": lambda: call("t.view", headers={"retries": 2}),
    "own headers": lambda: call("t.view", headers={"x-trace": "abc", "n": 1, "deep": {"a": [1]}}),
    "stamps": lambda: call("t.view", headers={"stamped_headers": ["s"], "stamps": {"s": "v"}, "s": "v"}),
    "shadow": lambda: call("t.view", headers={"shadow": "other.name"}),
    "ignore null": lambda: call("t.view", headers={"ignore_result": None}),
    "redelivered": lambda: _redelivered(call("t.view", headers={"redelivered": True})),
    "nested": lambda: call("t.view", headers={"replaced_task_nesting": 2}),
    "embed": lambda: envelope(
        [[1], {}, {**NO_EMBED, "chain": []}],
        headers={"task": "t.view"},
    ),
    "few headers": lambda: _few(call("t.view")),
    "protocol 1": lambda: _protocol_1(),
}


def _property(message: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    message["properties"][name] = value
    return message


def _redelivered(message: dict[str, Any]) -> dict[str, Any]:
    message["properties"]["delivery_info"]["redelivered"] = True
    return message


def _few(message: dict[str, Any]) -> dict[str, Any]:
    message["headers"] = {key: message["headers"][key] for key in ("lang", "task", "id")}
    return message


def _protocol_1() -> dict[str, Any]:
    message = envelope({"task": "t.view", "id": "v1", "args": [1], "kwargs": {"a": 1}, "utc": True, "taskset": "ts"})
    task_id = message["headers"]["id"]
    message["body"] = envelope(
        {"task": "t.view", "id": task_id, "args": [1], "kwargs": {"a": 1}, "utc": True, "retries": 1, "group": "g"}
    )["body"]
    return {**message, "headers": {}, "id": task_id}


def seen_on(lab: Lab, queue: str, message: dict[str, Any]) -> dict[str, Any]:
    """What the worker of this queue shows for the message."""
    task_id = message.pop("id", "") or message["headers"]["id"]
    message["properties"]["delivery_info"]["routing_key"] = "same"
    push(lab.db, message, queue=queue)
    record = eventually(lambda: stored(lab, task_id), saying=f"the worker of {queue} answers")
    lab.db.client.delete(f"celery-task-meta-{task_id}")
    assert record["status"] == "SUCCESS", record
    return dict(json.loads(record["result"]))


@pytest.mark.parametrize("kind", list(MESSAGES))
def test_request_is_celerys(lab: Lab, kind: str) -> None:
    message = MESSAGES[kind]()
    mine = seen_on(lab, "mine", json.loads(json.dumps(message)))
    theirs = seen_on(lab, "theirs", json.loads(json.dumps(message)))
    for name in MAY_DIFFER:
        mine.pop(name, None)
        theirs.pop(name, None)
    assert mine == theirs


def test_hostname_is_the_node_name(lab: Lab) -> None:
    assert seen_on(lab, "mine", call("t.view"))["hostname"] == lab.workers[0].node


def test_what_a_request_shows_inside_a_retry(lab: Lab) -> None:
    sent = lab.send("retry", 1, queue="mine")
    assert sent.get(timeout=10) == 1
    assert stored(lab, sent.id)["parent_id"] == sent.id
