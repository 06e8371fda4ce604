"""What monitors hear of a worker: the same as of a stock one, in an order that makes sense, and nothing unasked."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.eventually import eventually
from tests.fix_events import Listener
from tests.fix_lab import RESULT_S, Lab
from tests.fix_monitor import Monitor
from tests.fix_proxy import Proxy
from tests.fix_redis import RedisServer, fresh_database

#: Where no two runs agree.
VOLATILE = {"timestamp", "local_received", "clock", "pid", "runtime", "traceback"}

PAST = datetime(2020, 1, 1, tzinfo=timezone.utc)

#: What is sent, and how what is heard of it ends.
SCENES: dict[str, tuple[Callable[[Lab, str], Any], tuple[str, ...]]] = {
    "terminated": (lambda lab, i: terminate(lab, i), ("task-revoked",)),
    "revoked": (lambda lab, i: revoke(lab, i), ("task-revoked",)),
    "success": (lambda lab, i: lab.send("add", 1, 2, task_id=i), ("task-succeeded",)),
    "text": (lambda lab, i: lab.send("ret", 'an "é" \\ \n', task_id=i), ("task-succeeded",)),
    "long": (lambda lab, i: lab.send("ret", ["y" * 3000], task_id=i), ("task-succeeded",)),
    "values": (lambda lab, i: lab.send("ret", [None, True, 1.5, {"a": 2**70}], task_id=i), ("task-succeeded",)),
    "none": (lambda lab, i: lab.send("ret", None, task_id=i), ("task-succeeded",)),
    "float": (lambda lab, i: lab.send("ret", -0.5, task_id=i), ("task-succeeded",)),
    "late": (lambda lab, i: lab.send("ackslate", task_id=i), ("task-succeeded",)),
    "ignored result": (lambda lab, i: lab.send("ignored", "x", task_id=i), ("task-succeeded",)),
    "looks at its request": (lambda lab, i: lab.send("mark", "m", task_id=i), ("task-succeeded",)),
    "shadow": (lambda lab, i: lab.send("add", 1, 1, task_id=i, shadow="other.name"), ("task-succeeded",)),
    "argsrepr": (lambda lab, i: lab.send("add", 1, 1, task_id=i, argsrepr="(…)"), ("task-succeeded",)),
    "eta": (lambda lab, i: lab.send("add", 1, 1, task_id=i, eta=PAST), ("task-succeeded",)),
    "countdown": (lambda lab, i: lab.send("ret", 1, task_id=i, countdown=0.2), ("task-succeeded",)),
    "expires": (lambda lab, i: lab.send("ret", 2, task_id=i, expires=PAST + timedelta(days=9999)), ("task-succeeded",)),
    "old protocol": (lambda lab, i: send_old(lab, i), ("task-succeeded",)),
    "yaml": (lambda lab, i: lab.send("add", 1, 2, task_id=i, serializer="yaml"), ("task-succeeded",)),
    "failure": (lambda lab, i: lab.send("fail", task_id=i), ("task-failed",)),
    "picky failure": (lambda lab, i: lab.send("fail_picky", task_id=i), ("task-failed",)),
    "wrong arguments": (lambda lab, i: lab.app.send_task("t.add", (1,), task_id=i), ("task-failed",)),
    "late failure": (lambda lab, i: lab.send("fail_late", task_id=i), ("task-failed",)),
    "rejected failure": (lambda lab, i: lab.send("fail_late_unacked", task_id=i), ("task-rejected", "task-failed")),
    "failure with eta": (lambda lab, i: lab.send("fail", task_id=i, eta=PAST), ("task-failed",)),
    "unserialisable": (lambda lab, i: lab.send("unserialisable_result", task_id=i), ("task-failed",)),
    "retry": (lambda lab, i: lab.send("retry", 1, task_id=i), ("task-started", "task-succeeded")),
    "retries exceeded": (lambda lab, i: lab.send("retry_plain", task_id=i), ("task-started", "task-failed")),
    "ignore": (lambda lab, i: lab.send("ignore", "i", task_id=i), ("task-received", "task-started")),
    "reject": (lambda lab, i: lab.send("reject", task_id=i), ("task-failed",)),
    "expired": (lambda lab, i: lab.send("add", 1, 1, task_id=i, expires=PAST), ("task-revoked",)),
    "unknown": (lambda lab, i: lab.app.send_task("t.nobody", task_id=i), ("task-failed",)),
    "custom": (lambda lab, i: lab.send("progress", task_id=i), ("task-succeeded",)),
    "hard limit": (lambda lab, i: lab.send("nap", "n", 30, task_id=i, time_limit=1), ("task-failed",)),
    "lost": (lambda lab, i: lab.send("die", "kill", task_id=i), ("task-failed",)),
    "lost, late": (lambda lab, i: lab.send("die_late", "kill", task_id=i), ("task-failed",)),
    "lost, requeued": (lambda lab, i: lab.send("die_requeue", "kill", "token", task_id=i), ("task-succeeded",)),
}


def send_old(lab: Lab, task_id: str) -> Any:
    """As a client of Celery 3 would."""
    old = lab.client(task_protocol=1)
    return old.tasks["t.add"].apply_async((1, 2), task_id=task_id)


def revoke(lab: Lab, task_id: str) -> Any:
    """Before it is sent."""
    lab.app.control.revoke(task_id, reply=True)
    return lab.send("add", 1, 1, task_id=task_id)


def terminate(lab: Lab, task_id: str) -> Any:
    """While it runs."""
    sent = lab.send("hold", task_id, task_id=task_id)
    eventually(lambda: lab.ledger.count("start", task_id))
    lab.app.control.revoke(task_id, terminate=True, reply=True)
    return sent


def id_of(scene: str) -> str:
    """The same in both labs."""
    return f"00000000-0000-4000-8000-{list(SCENES).index(scene):012d}"


def play(lab: Lab) -> Listener:
    """All scenes on a worker that sends events."""
    lab.use(accept_content=["json", "yaml"])
    with Listener(lab.client(), lab.db) as listener:
        lab.worker("-E", concurrency=1)
        for scene, (send, _end) in SCENES.items():
            send(lab, id_of(scene))
        for scene, (_send, end) in SCENES.items():
            listener.wait(id_of(scene), *end, within_s=30)
    return listener


@pytest.fixture(scope="module")
def ours(module_lab: Lab) -> Listener:
    """What is heard of the worker under test."""
    return play(module_lab)


@pytest.fixture(scope="module")
def theirs(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    """What is heard of a stock worker."""
    database = fresh_database(redis_server)
    stock = Lab("celery", db=database, folder=tmp_path_factory.mktemp("stock"))
    yield play(stock)
    stock.close()
    database.clear()


@pytest.fixture
def busy(ours: Listener, module_lab: Lab) -> Lab:
    """The lab of the worker that has played all scenes, and goes on."""
    return module_lab


def comparable(event: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in event.items() if name not in VOLATILE}
    if event.get("eta") and event["eta"] > "2026":
        found["eta"] = "some time in the future"
    return found


@pytest.mark.parametrize("scene", SCENES)
def test_monitors_hear_the_same_as_of_a_stock_worker(ours: Listener, theirs: Listener, scene: str) -> None:
    mine, stock = ours.of(id_of(scene)), theirs.of(id_of(scene))
    if scene == "hard limit":
        mine, stock = mine[:3], stock[:3]  # a stock worker tells the end twice
    if scene.startswith("retr"):
        # The next attempt may have been received before the last one's end is told.
        mine, stock = sorted(mine, key=_attempt), sorted(stock, key=_attempt)
    assert [list(event) for event in mine] == [list(event) for event in stock]
    assert [comparable(event) for event in mine] == [comparable(event) for event in stock]


def _attempt(event: dict[str, Any]) -> tuple[str, int, int]:
    return event["type"], event.get("retries", 0), event["clock"]


@pytest.mark.parametrize("scene", ["failure", "late failure", "hard limit", "lost", "retries exceeded"])
def test_tracebacks_end_in_the_same_line(ours: Listener, theirs: Listener, scene: str) -> None:
    mine, stock = (heard.of(id_of(scene))[-1]["traceback"].splitlines() for heard in (ours, theirs))
    assert mine[0] == stock[0] == "Traceback (most recent call last):"
    assert _without_number(mine[-1]) == _without_number(stock[-1])


def _without_number(line: str) -> str:
    """The pool's count of jobs is its own."""
    return re.sub(r"Job: \d+", "Job", line)


def test_events_come_in_the_order_of_time(ours: Listener) -> None:
    for scene in SCENES:
        heard = [event for event in ours.of(id_of(scene)) if event["type"] != "task-progress"]
        clocks = [event["clock"] for event in heard]
        assert len(set(clocks)) == len(clocks)
        assert [event["timestamp"] for event in heard] == sorted(event["timestamp"] for event in heard)


def test_events_are_those_of_the_main_process(ours: Listener, module_lab: Lab) -> None:
    worker = module_lab.workers[0]
    of_tasks = [event for event in ours.heard if event["type"] != "task-progress"]
    assert {event["pid"] for event in of_tasks} == {worker.pid}
    assert {event["hostname"] for event in ours.heard} == {worker.node}
    assert {event["utcoffset"] for event in ours.heard if "utcoffset" in event} == {0.0}


def test_runtimes_are_those_of_the_tasks(busy: Lab) -> None:
    with Listener(busy.client(), busy.db) as listener:
        nap = busy.send("nap", "n", 0.2)
        listener.wait(nap.id, "task-succeeded")
    started, succeeded = listener.of(nap.id)[1:]
    assert 0.2 <= succeeded["runtime"] < 1
    assert succeeded["timestamp"] - started["timestamp"] >= 0.2


def test_a_start_is_told_while_the_task_runs(busy: Lab) -> None:
    with Listener(busy.client(), busy.db) as listener:
        held = busy.send("hold", "gate")
        listener.wait(held.id, "task-received", "task-started")
        busy.ledger.open_gate("gate")
        listener.wait(held.id, "task-succeeded")


def test_tasks_that_send_no_events_send_none(busy: Lab) -> None:
    with Listener(busy.client(), busy.db) as listener:
        silent = [
            busy.send("silent"),
            busy.send("silent", eta=PAST),
            busy.send("silent", "boom"),
            busy.send("silent", expires=PAST),
        ]
        loud = busy.send("add", 1, 1)
        listener.wait(loud.id, "task-succeeded")
    assert [listener.types(result.id) for result in silent] == [[]] * 4


def test_the_setting_does_what_the_option_does(lab: Lab) -> None:
    lab.use(worker_send_task_events=True)
    with Listener(lab.client(), lab.db) as listener:
        lab.worker()
        listener.wait(lab.send("add", 1, 1).id, "task-received", "task-started", "task-succeeded")


def test_nothing_is_published_for_tasks_unless_asked_for(lab: Lab) -> None:
    lab.worker(quiet=("--without-mingle",))
    with Monitor(lab.db) as monitor:
        for _ in range(20):
            assert lab.run("add", 1, 1) == 2
        with pytest.raises(Exception, match="boom"):
            lab.run("fail")
    channels = {command[1] for command in monitor.told("PUBLISH") if "celeryev" in command[1]}
    assert channels <= {f"/{lab.db.number}.celeryev/worker.{kind}" for kind in ("online", "heartbeat")}


def test_without_heartbeat_and_gossip_nothing_is_published_at_all(lab: Lab) -> None:
    with Monitor(lab.db) as monitor:
        worker = lab.worker()
        assert lab.run("add", 1, 1) == 2
        worker.stop()
    assert not [command for command in monitor.told("PUBLISH") if "celeryev" in command[1]]


def test_a_worker_comes_beats_and_goes(lab: Lab) -> None:
    with Listener(lab.client(), lab.db) as listener:
        worker = lab.worker("--heartbeat-interval", "1", quiet=())
        assert lab.run("add", 1, 1) == 2
        eventually(lambda: [e for e in listener.named("worker-heartbeat") if e["processed"] == 1])
        lab.send("hold", "gate")
        eventually(lambda: [e for e in listener.named("worker-heartbeat") if e["active"] == 1])
        lab.ledger.open_gate("gate")
        worker.stop()
        eventually(lambda: listener.named("worker-offline"))
    online = listener.named("worker-online")[0]
    assert list(online) == [
        *("hostname", "utcoffset", "pid", "clock", "freq", "active", "processed", "loadavg"),
        *("sw_ident", "sw_ver", "sw_sys", "timestamp", "type", "local_received"),
    ]
    assert (online["freq"], online["active"], online["processed"]) == (1.0, 0, 0)
    assert (online["pid"], online["hostname"]) == (worker.pid, worker.node)
    assert [len(e["loadavg"]) for e in listener.named("worker-heartbeat")][:1] == [3]
    kinds = [e["type"] for e in listener.heard if e["type"].startswith("worker-")]
    assert (kinds[0], kinds[-1], len(kinds) > 3) == ("worker-online", "worker-offline", True)


def test_a_state_of_celerys_shows_the_worker_and_its_tasks(lab: Lab) -> None:
    app = lab.client()
    state = app.events.State()
    with Listener(app, lab.db) as listener:
        worker = lab.worker("-E", quiet=())
        good, bad = lab.send("add", 2, 3), lab.send("fail")
        listener.wait(good.id, "task-succeeded")
        listener.wait(bad.id, "task-failed")
    for event in listener.heard:
        state.event(event)
    assert state.workers[worker.node].alive
    assert (state.tasks[good.id].state, state.tasks[good.id].result) == ("SUCCESS", "5")
    assert state.tasks[bad.id].state == "FAILURE"
    assert state.tasks[good.id].worker.hostname == worker.node


@pytest.mark.parametrize("serializer", ["pickle", "msgpack"])
def test_events_are_in_the_serializer_of_the_application(lab: Lab, serializer: str) -> None:
    lab.use(event_serializer=serializer)
    with Listener(lab.client(), lab.db) as listener:
        lab.worker("-E")
        listener.wait(lab.send("add", 1, 1).id, "task-received", "task-started", "task-succeeded")


def test_exchange_and_channel_names_are_those_of_the_settings(lab: Lab) -> None:
    options = {"global_keyprefix": "mine.", "fanout_prefix": "/far{db}."}
    lab.use(event_exchange="happenings", broker_transport_options=options)
    with Listener(lab.client(), lab.db) as listener, Monitor(lab.db) as monitor:
        lab.worker("-E")
        listener.wait(lab.send("add", 1, 1).id, "task-succeeded")
    published = {command[1] for command in monitor.told("PUBLISH") if "happenings" in command[1]}
    assert published == {f"mine./far{lab.db.number}.happenings/task.multi"}


def test_many_tasks_lose_no_event(busy: Lab) -> None:
    with Listener(busy.client(), busy.db) as listener:
        results = [busy.send("add", n, n) for n in range(1000)]
        for result in results:
            listener.wait(result.id, "task-received", "task-started", "task-succeeded", within_s=30)


def test_events_of_a_stop_still_arrive(lab: Lab) -> None:
    with Listener(lab.client(), lab.db) as listener:
        worker = lab.worker("-E", quiet=())
        held = lab.send("hold", "gate")
        listener.wait(held.id, "task-started")
        worker.send(signal.SIGTERM)
        eventually(lambda: listener.named("worker-offline"))
        lab.ledger.open_gate("gate")
        listener.wait(held.id, "task-succeeded", within_s=RESULT_S)
        worker.wait()


def test_events_are_switched_while_the_worker_runs(lab: Lab) -> None:
    with Listener(lab.client(), lab.db) as listener:
        lab.worker(quiet=("--without-mingle",), concurrency=2)
        control = lab.app.control
        before, during, after = lab.send("add", 1, 1), None, None
        assert before.get(timeout=RESULT_S) == 2
        assert _answers(control.enable_events(reply=True)) == {"ok": "task events enabled"}
        assert _answers(control.enable_events(reply=True)) == {"ok": "task events already enabled"}
        during = lab.send("add", 2, 2)
        listener.wait(during.id, "task-received", "task-started", "task-succeeded")
        assert _answers(control.disable_events(reply=True)) == {"ok": "task events disabled"}
        assert _answers(control.disable_events(reply=True)) == {"ok": "task events already disabled"}
        after = lab.send("add", 3, 3)
        assert after.get(timeout=RESULT_S) == 6
        control.heartbeat()
        eventually(lambda: [e for e in listener.named("worker-heartbeat") if e["freq"] == 5])
    assert listener.types(before.id) == listener.types(after.id) == []


def test_events_of_the_option_stay_on(lab: Lab) -> None:
    lab.worker("-E", quiet=("--without-mingle",))
    control = lab.app.control
    assert _answers(control.enable_events(reply=True)) == {"ok": "task events already enabled"}
    assert _answers(control.disable_events(reply=True)) == {"ok": "task events already disabled"}
    with Listener(lab.client(), lab.db) as listener:
        listener.wait(lab.send("add", 1, 1).id, "task-succeeded")


def _answers(replies: list[dict[str, Any]]) -> Any:
    [reply] = replies
    return reply["w1@tests"]


@pytest.mark.fastq_only(reason="Celery keeps everything, and its order of messages is another")
def test_events_wait_for_a_broker_that_is_away(proxy: Proxy, lab: Lab) -> None:
    """The worker's way to Redis is cut while a task runs: what happened meanwhile is told afterwards."""
    direct = lab.client(broker=lab.db.url)
    lab.use(broker=proxy.url(number=lab.db.number), backend=lab.db.url)
    with Listener(direct, lab.db) as listener:
        worker = lab.worker("-E", quiet=("--without-mingle",))
        held = direct.tasks["t.hold"].delay("gate")
        listener.wait(held.id, "task-received", "task-started")
        proxy.refuse()
        proxy.cut()
        worker.wait_log("Connection to the broker lost")
        lab.ledger.open_gate("gate")
        eventually(lambda: lab.ledger.count("end", "gate"))
        proxy.accept()
        listener.wait(held.id, "task-succeeded")
        eventually(lambda: len(listener.named("worker-online")) == 2)
