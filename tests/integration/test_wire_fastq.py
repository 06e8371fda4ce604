"""Messages of wire fastq beside Celery's, on the queue of a Celery application: nobody sees a difference."""

from __future__ import annotations

import json
import uuid
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from fastq.producer import Producer
from fastq.wire.deadletter import decode_letter
from fastq.wire.packed import pack, to_envelope
from tests.eventually import eventually
from tests.fix_events import Listener
from tests.fix_lab import RESULT_S, Lab, stored, wait_state

pytestmark = pytest.mark.fastq_only("reads Celery's wire only")

DEAD = "fastq:dead:{celery}"


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """The module's worker; it has to survive every test."""
    module_lab.worker("-E")
    return module_lab


def message(name: str, *args: Any, task_id: str = "", queue: str = "celery", **options: Any) -> tuple[str, bytes]:
    """A packed message of `t.<name>`, and its id."""
    task_id = task_id or str(uuid.uuid4())
    return task_id, pack(f"t.{name}", args, task_id=task_id, queue=queue, options=options)


def send(lab: Lab, name: str, *args: Any, **options: Any) -> str:
    """Put one on the queue; its id."""
    task_id, raw = message(name, *args, **options)
    lab.db.client.lpush("celery", raw)
    return task_id


def run(lab: Lab, name: str, *args: Any, **options: Any) -> Any:
    """The value, as Celery's own AsyncResult gets it."""
    return lab.app.AsyncResult(send(lab, name, *args, **options)).get(timeout=RESULT_S)


def goes_on(lab: Lab) -> None:
    """A good message runs in the same worker, and nothing is left on the books."""
    assert run(lab, "add", 20, 22) == 42
    eventually(lab.idle, saying=f"nothing is held: {lab.held()}")
    assert lab.workers[-1].alive


# ---------------------------------------------------------------------------- both wires, one queue


def test_both_wires_share_a_queue(lab: Lab) -> None:
    sent = [lab.send("add", n, 0).id if n % 2 else send(lab, "add", n, 0) for n in range(100)]
    assert [lab.app.AsyncResult(task_id).get(timeout=RESULT_S) for task_id in sent] == list(range(100))
    goes_on(lab)


def test_values_arrive_as_they_would_by_celerys_wire(lab: Lab) -> None:
    now = datetime(2026, 11, 20, 12, 30, 1, 250, tzinfo=timezone(timedelta(hours=2)))
    values = [1, 2**70, 1.5, "é\U0001f600", None, [1, [2]], {"a": {"b": b"\xff"}}, b"bytes", uuid.UUID(int=7)]
    values += [
        Decimal("1.10"),
        now,
        now.replace(tzinfo=None),
        now.astimezone(timezone.utc),
        date(2026, 1, 2),
        now.timetz(),
    ]
    assert run(lab, "types", *values) == lab.run("types", *values)


def test_a_producer_writes_them(lab: Lab) -> None:
    with Producer(lab.db.url, wire="fastq") as producer:
        ids = producer.send_many("t.echo", [((n, "two"), {"three": [uuid.UUID(int=3)]}) for n in range(20)])
        assert producer.handle(ids[7]).get(timeout=RESULT_S) == [[7, "two"], {"three": [uuid.UUID(int=3)]}]
        late = producer.send("t.add", (1, 2), countdown=0.1, priority=6, headers={"mine": 1}, time_limit=50)
        assert late.get(timeout=RESULT_S) == 3


def test_results_are_stored_under_the_usual_name_and_say_the_usual_things(lab: Lab) -> None:
    group, parent = str(uuid.uuid4()), "no uuid"
    found = stored(lab, _done(lab, send(lab, "add", 1, 2, group=group, parent_id=parent)))
    assert (found["status"], found["result"], found["group_id"], found["parent_id"]) == ("SUCCESS", 3, group, parent)
    assert run(lab, "add", 1, 2, task_id="an id of the caller's") == 3
    silent = send(lab, "add", 1, 2, ignore_result=True)
    goes_on(lab)
    assert stored(lab, silent) == {}


def _done(lab: Lab, task_id: str) -> str:
    wait_state(lab, task_id, "SUCCESS")
    return task_id


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"retries": 2, "root_id": str(uuid.uuid4()), "parent_id": "p", "group": str(uuid.uuid4()), "group_index": 3},
        {"headers": {"traceparent": "00-1-2-03", "mine": [1, {"a": None}]}, "priority": 3, "reply_to": "somebody"},
        {"headers": {"mine": "é"}, "origin": "gen1@host", "argsrepr": "(…)", "kwargsrepr": "{…}"},
        {"expires": 4e9, "timelimit": (60, 50), "shadow": "other", "stamped_headers": ["a"], "stamps": {"a": "b"}},
    ],
    ids=["nothing", "lineage", "headers", "texts", "times"],
)
def test_a_request_shows_what_celerys_message_would_show(lab: Lab, options: dict[str, Any]) -> None:
    task_id, raw = message("view", 1, "two", **options)
    views = []
    for form in (raw, to_envelope(raw)):
        lab.db.client.lpush("celery", form)
        views.append(json.loads(lab.app.AsyncResult(task_id).get(timeout=RESULT_S)))
        lab.app.AsyncResult(task_id).forget()
    assert views[0]["task"] == "t.view"
    assert views[0] == views[1]


# ---------------------------------------------------------------------------- what is not plain


def test_a_message_waits_for_its_time_or_expires(lab: Lab) -> None:
    soon = datetime.now(timezone.utc).timestamp() + 0.3
    assert run(lab, "add", 1, 2, eta=soon) == 3
    assert datetime.now(timezone.utc).timestamp() >= soon
    expired = send(lab, "add", 1, 2, expires=5)
    assert wait_state(lab, expired, "REVOKED")["result"]["exc_message"] == ["expired"]


def test_retries_rejections_and_canvas_are_celerys(lab: Lab) -> None:
    assert run(lab, "retry", 2) == 2
    again = send(lab, "reject_late", True)
    assert wait_state(lab, again, "SUCCESS")["result"] == "second time"
    link = dict(lab.task("add").s(10).set(task_id=str(uuid.uuid4())))
    first = send(lab, "add", 1, 2, chain=[link])
    assert lab.app.AsyncResult(link["options"]["task_id"]).get(timeout=RESULT_S) == 13
    assert stored(lab, first)["result"] == 3


def test_a_failure_and_an_unknown_task_are_recorded(lab: Lab) -> None:
    assert wait_state(lab, send(lab, "fail"), "FAILURE")["result"]["exc_type"] == "CustomError"
    assert wait_state(lab, send(lab, "nobody"), "FAILURE")["result"]["exc_type"] == "NotRegistered"


def test_a_time_limit_holds(lab: Lab) -> None:
    found = wait_state(lab, send(lab, "nap", "n", 30, timelimit=(0.3, None)), "FAILURE")
    assert found["result"]["exc_type"] == "TimeLimitExceeded"


def test_people_see_the_arguments(lab: Lab) -> None:
    with Listener(lab.client(), lab.db) as listener:
        eventually(lambda: [lab.app.control.broadcast("heartbeat"), *listener.named("worker-heartbeat")][1:])
        task_id = send(lab, "add", 1, 2)
        listener.wait(task_id, "task-received", "task-started", "task-succeeded")
        (received, *_rest) = listener.of(task_id)
        assert (received["name"], received["args"], received["kwargs"]) == ("t.add", "(1, 2)", "{}")
        assert (received["root_id"], received["parent_id"], received["retries"]) == (task_id, None, 0)
    soon = round(datetime.now(timezone.utc).timestamp() + 2.5)
    waiting = send(lab, "add", 3, 4, eta=soon)
    (entry,) = eventually(lambda: _scheduled(lab))
    assert (entry["request"]["id"], entry["request"]["args"]) == (waiting, [3, 4])
    assert entry["eta"] == datetime.fromtimestamp(soon, timezone.utc).isoformat()
    _done(lab, waiting)


def _scheduled(lab: Lab) -> list[Any]:
    reply = lab.client().control.broadcast("scheduled", reply=True, timeout=10, limit=1)
    return list(*reply[0].values())


def test_a_message_that_is_revoked_does_not_run(lab: Lab) -> None:
    task_id, raw = message("mark", "revoked")
    lab.app.control.revoke(task_id, reply=True)
    lab.db.client.lpush("celery", raw)
    assert wait_state(lab, task_id, "REVOKED")
    assert "revoked" not in lab.ledger.tokens("ran")


# ---------------------------------------------------------------------------- damage

WHOLE = message("add", 1, 2)[1]
HEAD = WHOLE[: WHOLE.index(b"celery") + 6]
BROKEN = {
    "only the first byte": b"\x96",
    "cut in the body": WHOLE[:-1],
    "cut in the id": WHOLE[:20],
    "something behind it": WHOLE + b"\xc0",
    "of a version to come": b"\x96\x02" + WHOLE[2:],
    "five items": b"\x95" + WHOLE[1:],
    "no name": pack("", task_id="1", queue="celery"),
    "a name that is a number": b"\x96\x01\x05" + WHOLE[8:],
    "an id of fifteen bytes": b"\x96\x01\xa5t.add\xc4\x0f" + bytes(15) + b"\xa6celery\xc0\x92\x90\x80",
    "no id": b"\x96\x01\xa5t.add\xc0\xa6celery\xc0\x92\x90\x80",
    "options that are no map": HEAD + b"\x91\x01\x92\x90\x80",
    "an eta that is text": HEAD + b"\x81\xa3eta\xa4soon\x92\x90\x80",
    "an eta after the year 9999": HEAD + b"\x81\xa3eta\xcb\x7f\xe0\x00\x00\x00\x00\x00\x00\x92\x90\x80",
    "an eta that is no number": HEAD + b"\x81\xa3eta\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x92\x90\x80",
    "a body that is a map": HEAD + b"\xc0\x80",
    "a length without end": HEAD + b"\xc0\x92\xdd\xff\xff\xff\xff\x80",
    "an id without end": b"\x96\x01\xa5t.add\xdd\xff\xff\xff\xff",
    "a byte that is no type": HEAD + b"\xc0\x92\x91\xc1\x80",
    "deep nesting": HEAD + b"\xc0\x92" + b"\x91" * 100_000,
    "headers that are a list": HEAD + b"\x81\xa7headers\x90\x92\x90\x80",
    "stamps that are text": HEAD + b"\x81\xa6stamps\xa1x\x92\x90\x80",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_message_is_kept_aside(lab: Lab, kind: str) -> None:
    lab.db.client.lpush("celery", BROKEN[kind])
    goes_on(lab)
    letters = [decode_letter(entry) for entry in lab.db.entries(DEAD)]
    assert [(letter.message, letter.reason) for letter in letters] == [(BROKEN[kind], "undecodable")]
    lab.db.client.delete(DEAD)


def test_the_log_names_what_is_damaged_if_it_can(lab: Lab) -> None:
    task_id, raw = message("add", 1, 2)
    lab.db.client.lpush("celery", raw[:-1])
    goes_on(lab)
    assert lab.workers[-1].log_lines(f"Not a message .id {task_id}")
    lab.db.client.delete(DEAD)


BODIES = {
    "text that is no UTF-8": b"\x92\x91\xa1\xff\x80",
    "an unknown extension": b"\x92\x91\xd4\x63\x00\x80",
    "a datetime that is none": b"\x92\x91\xc7\x01\x01x\x80",
    "a decimal that is none": b"\x92\x91\xc7\x01\x04x\x80",
    "a timestamp out of range": b"\x92\x91\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff\x80",
    "an array as a key": b"\x92\x91\x81\x90\x01\x80",
    "keywords with a number": b"\x92\x90\x81\x01\x01",
    "no keywords": b"\x92\x90\xc0",
    "arguments that are text": b"\x92\xa1x\x80",
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_cannot_be_decoded_is_refused_by_name(lab: Lab, kind: str) -> None:
    lab.db.client.lpush("celery", HEAD + b"\xc0" + BODIES[kind])
    goes_on(lab)
    lab.workers[-1].wait_log("(?i)refused")
