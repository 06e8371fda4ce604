"""max_running: never more at once than said, over all workers, and nothing lost, whatever is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import celery
import pytest

from fastq import FastQ, Producer, chord
from fastq.app.running.context import Request
from fastq.app.running.execute import Executor
from fastq.app.running.judge import Judge
from fastq.app.running.message import open_message
from fastq.app.running.results import Results
from fastq.app.running.slots import Slots
from fastq.child.letters import Letters
from fastq.cli.status import describe
from fastq.errors import BrokerUnavailable, OptionError, TaskFailed, TaskRevoked
from fastq.monitor import openmetrics
from fastq.monitor.local import local_workers
from fastq.monitor.snapshot import take
from fastq.monitor.status import status
from fastq.program import Verdict
from fastq.transport.redis.keys import Keys
from fastq.transport.redis.slot_survey import lines
from fastq.wire.packed import to_envelope
from tests.apps import limited
from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab
from tests.fix_worker import ROOT

pytestmark = pytest.mark.fastq_only


@pytest.fixture(scope="module")
def fleet(module_lab: Lab) -> Iterator[Lab]:
    """Two workers with functions, and one with coroutines."""
    for app in (limited.app, limited.loops):
        app.conf.broker_url = app.conf.result_backend = module_lab.db.url
    for name in ("one", "two"):
        module_lab.worker("-Q", "fastq", app="tests.apps.limited:app", concurrency=2, name=name)
    module_lab.worker("-Q", "loops", app="tests.apps.limited:loops", concurrency=1, name="three")
    yield module_lab
    limited.app.close()
    limited.loops.close()


def most(lab: Lab, name: str) -> int:
    return int(lab.db.client.zscore("most", name) or 0)


def open_gate(lab: Lab, token: str) -> None:
    (lab.folder / f"gate-{token}").touch()


def ran(lab: Lab, token: str) -> list[int]:
    path = lab.folder / "ledger.txt"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [int(pid) for event, found, pid in lines if (event, found) == ("ran", token)]


def left(lab: Lab) -> list[str]:
    """Keys of those who run or wait."""
    return [key for key in lab.db.keys("*") if "fastq:slots" in key]


def test_never_more_at_once_over_all_workers(fleet: Lab) -> None:
    handles = [limited.counted.delay() for _ in range(30)]
    assert [handle.get(RESULT_S) for handle in handles] == [handle.id for handle in handles]
    assert most(fleet, "counted") == 2
    eventually(lambda: not left(fleet), saying="nothing is left")


def test_parts_of_workflows_wait_like_others(fleet: Lab) -> None:
    header = [limited.counted.s() for _ in range(6)]
    assert chord(header, limited.total.s()).delay().get(RESULT_S) == 6


def test_keys_have_slots_of_their_own(fleet: Lab) -> None:
    handles = [limited.by_name.delay(number % 2) for number in range(12)]
    assert [handle.get(RESULT_S) for handle in handles] == [0, 1] * 6
    assert (most(fleet, "by_name-0"), most(fleet, "by_name-1")) == (1, 1)
    first = limited.by_function.delay({"name": "a"}, "f1")
    eventually(lambda: ran(fleet, "f1"), saying="it runs")
    second, other = limited.by_function.delay({"name": "a"}, "f2"), limited.by_function.delay({"name": "b"}, "f3")
    eventually(lambda: ran(fleet, "f3"), saying="another key's runs")
    assert not ran(fleet, "f2")
    for token in ("f1", "f2", "f3"):
        open_gate(fleet, token)
    for handle in (first, second, other):
        assert handle.get(RESULT_S)


def test_those_who_wait_come_in_their_order(fleet: Lab) -> None:
    handles = [limited.gated.delay("o0")]
    eventually(lambda: ran(fleet, "o0"), saying="the first runs")
    for number in range(1, 5):
        handles.append(limited.gated.delay(f"o{number}"))
        wait_for(fleet, number)
    for number in range(5):
        open_gate(fleet, f"o{number}")
    for handle in handles:
        handle.get(RESULT_S)
    path = fleet.folder / "ledger.txt"
    order = [line.split()[1] for line in path.read_text().splitlines() if line.split()[1].startswith("o")]
    assert order == [f"o{number}" for number in range(5)]


def wait_to_begin(lab: Lab, token: str, count: int) -> None:
    eventually(lambda: len(ran(lab, token)) >= count, saying="so many have begun")


def wait_for(lab: Lab, count: int) -> None:
    eventually(lambda: waiting(lab, "gated") == count, saying="it waits")


def waiting(lab: Lab, name: str, key: str = "") -> int:
    return int(lab.db.client.zcard(f"few:fastq:slots:tests.apps.limited.{name}:{key}:waiting"))


def test_who_waits_and_who_has_the_slots_can_be_seen(fleet: Lab) -> None:
    first = limited.watched.delay("seen: x", "s1")
    eventually(lambda: ran(fleet, "s1"), saying="it runs")
    second = limited.watched.delay("seen: x", "s2")
    third = limited.watched.delay("seen: x", "s3")
    name = limited.watched.name
    eventually(lambda: waiting(fleet, "watched", "seen: x") == 2, saying="they wait")
    [line] = lines(fleet.db.client, keys=Keys.from_options(limited.PREFIX))
    assert (line.task, line.key, line.most, line.waiting) == (name, "seen: x", 1, 2)
    assert line.first in (second.id, third.id)
    [holder] = line.holders
    assert (holder.id, holder.retries, holder.alive) == (first.id, 0, True)
    assert holder.node in ("one@tests", "two@tests")
    assert 0 <= line.first_s <= holder.for_s < RESULT_S
    told_re = rf"{name}\[.* waits for a slot: 1 of key seen: x run"
    eventually(lambda: sum(len(worker.log_lines(told_re)) for worker in fleet.workers) == 1, saying="one says so")
    shown = queues(fleet)
    assert "2 messages are in no queue, since they wait for a slot of their task (max_running):" in shown
    assert f"  {name} key seen: x: 2 wait, the first ({line.first}) for " in shown
    assert f"    {first.id} for " in shown
    for node in ("one@tests", "two@tests"):
        assert_counted(node, name)
    assert name not in take(local_workers("three@tests")[0]).for_slot
    for token in ("s1", "s2", "s3"):
        open_gate(fleet, token)
    for handle in (first, second, third):
        handle.get(RESULT_S)
    assert "max_running" not in queues(fleet)


def assert_counted(node: str, name: str) -> None:
    [worker] = local_workers(node)
    eventually(lambda: take(worker).for_slot.get(name) == 2, saying="workers count them")
    now = take(worker)
    page = openmetrics.render(now, version="1", python="3", memory={})
    assert f'fastq_tasks_waiting_for_slot{{task="{name}"}} 2\n' in page
    assert 'fastq_tasks_waiting_for_slot{task="tests.apps.limited.once"} 0\n' in page
    assert f"wait for a slot (max_running; see fastq queues): 2 of {name}" in describe(now, now, memory={})
    assert status(now, version="1", memory={})["waiting_for_slot"][name] == 2


def queues(lab: Lab) -> str:
    options = json.dumps(limited.PREFIX)
    command = [sys.executable, "-m", "fastq", "queues", "-b", lab.db.url, "--transport-options", options]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True
    ).stdout


def test_a_killed_child_gives_its_slot_back(fleet: Lab) -> None:
    first, second = limited.gated.delay("k1"), limited.gated.delay("k2")
    eventually(lambda: ran(fleet, "k1") or ran(fleet, "k2"), saying="one runs")
    eventually(lambda: waiting(fleet, "gated") == 1, saying="one waits")
    if ran(fleet, "k2"):
        first, second = second, first
    token, other = ("k1", "k2") if ran(fleet, "k1") else ("k2", "k1")
    os.kill(ran(fleet, token)[0], signal.SIGKILL)
    with pytest.raises(TaskFailed, match="ChildLost"):
        first.get(RESULT_S)
    open_gate(fleet, other)
    assert second.get(RESULT_S)


def test_one_that_runs_again_has_its_slot_again(fleet: Lab) -> None:
    handle = limited.late.delay("l")
    eventually(lambda: ran(fleet, "l"), saying="it runs")
    os.kill(ran(fleet, "l")[0], signal.SIGKILL)
    eventually(lambda: len(ran(fleet, "l")) == 2, saying="it runs again")
    open_gate(fleet, "l")
    assert handle.get(RESULT_S)
    eventually(lambda: not left(fleet), saying="nothing is left")


def test_one_that_waits_can_be_cancelled_and_expires(fleet: Lab) -> None:
    first = limited.gated.delay("c1")
    eventually(lambda: ran(fleet, "c1"), saying="it runs")
    second, third = limited.gated.delay("c2"), limited.gated.apply_async(["c3"], expires=0.2)
    fourth = limited.gated.delay("c4")
    eventually(lambda: waiting(fleet, "gated") == 3, saying="they wait")
    second.cancel()
    with pytest.raises(TaskRevoked):
        second.get(RESULT_S)
    open_gate(fleet, "c4")
    eventually(lambda: third.status == "PENDING", saying="it is still waiting")
    time.sleep(0.2)
    open_gate(fleet, "c1")
    assert first.get(RESULT_S)
    with pytest.raises(TaskRevoked):
        third.get(RESULT_S)
    assert fourth.get(RESULT_S)
    assert not ran(fleet, "c2")
    assert not ran(fleet, "c3")


def test_nothing_is_lost_while_children_are_killed(fleet: Lab) -> None:
    handles = [limited.shot.delay(number) for number in range(16)]
    for count in (1, 4, 7):
        wait_to_begin(fleet, "shot", count)
        with contextlib.suppress(ProcessLookupError):
            os.kill(ran(fleet, "shot")[-1], signal.SIGKILL)
    assert [handle.get(RESULT_S) for handle in handles] == list(range(16))
    eventually(lambda: not left(fleet), saying="nothing is left")


def test_who_speaks_for_a_lost_child_sees_what_waits(fleet: Lab) -> None:
    task = limited.gated
    name, commands = task.name, []
    port: Any = SimpleNamespace(
        worker=b"lost",
        queue=b"",
        flags=0,
        note_end=id,
        finish=lambda: None,
        outcome=lambda *told: commands.append(told),
        store=id,
    )
    results = Results(limited.app)
    executor = Executor(limited.app, port=port, node="here", letters=Letters((), node="here"), results=results)
    fleet.db.client.set("few:fastq:worker:lost", 1, ex=10)
    messages = [_bytes(limited.app.producer.compose(name, (token,)).messages[0]) for token in ("j1", "j2")]
    requests = [Request(open_message(raw), hostname="here") for raw in messages]
    taken = [executor.slots.take(executor, task, request, raw) for request, raw in zip(requests, messages, strict=True)]
    assert taken == [True, False]
    for request, raw in zip(requests[::-1], messages[::-1], strict=True):
        fresh = Request(open_message(raw), hostname="here")
        assert executor.slots.elsewhere(executor, task, fresh) == (request is requests[1])
        Judge(executor).carry_out(Verdict(kind="lost", reason="killed"), task, fresh, raw=raw, late=False)()
    assert len(commands) == 1  # the failure of the one that ran, with what gives its slot back
    assert b"killed" in commands[0][2]
    open_gate(fleet, "j2")
    executor.slots._app.producer.carry_out(executor.slots.free(executor, task, requests[0]))
    eventually(lambda: ran(fleet, "j2"), saying="the other has its turn")
    eventually(lambda: not left(fleet), saying="nothing is left")


def _bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else bytes(message)


def test_retries_take_turns_with_others(fleet: Lab) -> None:
    handles = [limited.retried.delay() for _ in range(4)]
    assert [handle.get(RESULT_S) for handle in handles] == [2] * 4
    assert most(fleet, "retried") == 1


def test_a_unique_one_that_waits_keeps_its_lock(fleet: Lab) -> None:
    first, second = limited.once.delay("u1"), limited.once.delay("u2")
    eventually(lambda: waiting(fleet, "once") == 1, saying="one waits")
    assert limited.once.delay("u1").existed
    assert limited.once.delay("u2").existed
    for token in ("u1", "u2"):
        open_gate(fleet, token)
    assert first.get(RESULT_S)
    assert second.get(RESULT_S)
    assert not limited.once.delay("u2").existed


def test_coroutines_and_senders_that_know_nothing(fleet: Lab) -> None:
    name = "tests.apps.limited.awaited"
    with Producer(fleet.db.url, transport_options=limited.PREFIX, queue="loops", ignore_result=False) as producer:
        handles: list[Any] = [producer.send(name) for _ in range(10)]
        stock = celery.Celery(broker=fleet.db.url, backend=fleet.db.url, set_as_current=False)
        stock.conf.broker_transport_options = limited.PREFIX
        handles += [stock.send_task(name, queue="loops") for _ in range(10)]
        for handle in handles:
            handle.get(RESULT_S)
        stock.close()
    assert most(fleet, "awaited") == 3


def test_functions_beside_coroutines_have_no_slot_before_their_turn(fleet: Lab) -> None:
    handles = [limited.beside.delay(f"b{number}") for number in range(3)]
    [worker] = local_workers("three@tests")
    eventually(lambda: [child.in_flight for child in take(worker).children] == [3], saying="all are in one child")
    eventually(lambda: any(ran(fleet, f"b{number}") for number in range(3)), saying="one runs")
    assert fleet.db.client.hlen(f"few:fastq:slots:{limited.beside.name}::running") == 1
    assert not waiting(fleet, "beside")
    for number in range(3):
        open_gate(fleet, f"b{number}")
    for handle in handles:
        assert handle.get(RESULT_S)
    eventually(lambda: not left(fleet), saying="nothing is left")


def test_what_came_by_an_exchange_goes_back_to_its_queue(fleet: Lab) -> None:
    """A routing key that is no queue's name: whoever waits for a slot or is retried is not lost."""
    producer = limited.app.producer
    ids = []
    for name, queue in (("counted", "fastq"), ("retried", "fastq"), ("awaited", "loops")):
        for _ in range(5):
            composed = producer.compose(f"tests.apps.limited.{name}")
            envelope = json.loads(to_envelope(_bytes(composed.messages[0])))
            envelope["properties"]["delivery_info"] = {"exchange": "orders", "routing_key": "orders.new"}
            fleet.db.client.lpush(f"few:{queue}", json.dumps(envelope))
            ids.append(envelope["headers"]["id"])
    for task_id in ids:
        producer.handle(task_id).get(RESULT_S)


def test_a_key_function_that_fails_fails_its_task(fleet: Lab) -> None:
    with pytest.raises(TaskFailed, match="max_running_key function has raised KeyError"):
        limited.broken.delay(1).get(RESULT_S)


def test_a_killed_worker_gives_its_slots_back(fleet: Lab) -> None:
    worker = fleet.worker("-Q", "doomed", app="tests.apps.limited:app", concurrency=2, name="doomed")
    limited.gated.apply_async(["w1"], queue="doomed")
    eventually(lambda: ran(fleet, "w1"), saying="it runs there")
    locked = limited.alone.apply_async(["w3"], queue="doomed")
    eventually(lambda: ran(fleet, "w3"), saying="the unique one, too")
    second = limited.gated.delay("w2")
    eventually(lambda: waiting(fleet, "gated") == 1, saying="another waits")
    worker.kill()
    for token in ("w2", "w3"):
        open_gate(fleet, token)
    assert second.get(RESULT_S)
    assert not ran(fleet, "w1")[1:]
    assert limited.alone.delay("w3").id == locked.id  # its message is in the queue again, and has the lock
    fleet.worker("-Q", "doomed", app="tests.apps.limited:app", concurrency=1, name="heir")
    assert locked.get(RESULT_S)
    assert not limited.alone.delay("w3").existed


def test_one_that_has_not_begun_waits_for_the_broker_however_long(fleet: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def away(command: bytes) -> int:
        asked.append(command)
        if len(asked) < 10:
            raise BrokerUnavailable("away")
        return 0

    monkeypatch.setattr("fastq.app.running.freeing.PAUSES_S", (0.0, 0.0))
    app: Any = SimpleNamespace(producer=SimpleNamespace(carry_out=away), conf=limited.app.conf)
    executor: Any = SimpleNamespace(port=SimpleNamespace(queue=b""))
    raw = _bytes(limited.app.producer.compose(limited.gated.name, ("q",)).messages[0])
    assert Slots(app, worker=b"w").take(executor, limited.gated, Request(open_message(raw), hostname="here"), raw)
    assert len(asked) == 10


def test_what_means_nothing_is_refused() -> None:
    app = FastQ("refused-slots", broker="redis://127.0.0.1:1/0")
    for options in (
        {"max_running": 0},
        {"max_running": -1},
        {"max_running": "3"},
        {"max_running": True},
        {"max_running_key": "token"},
        {"max_running": 1, "max_running_key": "nothing"},
        {"max_running": 1, "max_running_key": 3},
    ):
        with pytest.raises(OptionError, match="max_running"):
            app.task(**options)(limited.gated.function)


def test_children_of_a_test_have_slots_too() -> None:
    app = FastQ("few", broker="redis://127.0.0.1:1/0")

    @app.task(max_running=1)
    def times() -> tuple[float, float]:
        began = time.monotonic()
        time.sleep(0.05)
        return began, time.monotonic()

    with app.testing(children=2):
        found = sorted(handle.get(RESULT_S) for handle in [times.delay() for _ in range(4)])
    assert all(before[1] <= after[0] for before, after in pairwise(found))
    with app.testing():
        assert times.delay().get(RESULT_S)
