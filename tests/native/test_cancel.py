"""Cancelled tasks do not run: whether a worker was there to hear it, or not, or was killed in between."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from fastq import Handle, group
from fastq.errors import BrokerUnavailable, TaskRevoked
from fastq.producer import AsyncProducer, Producer
from tests.apps import flow_loops, flows
from tests.eventually import eventually, steadily
from tests.fix_lab import RESULT_S, Lab

pytestmark = pytest.mark.fastq_only

KEY = "fastq:cancelled"


@pytest.fixture
def flow(lab: Lab) -> Iterator[Lab]:
    """Native applications without a worker."""
    lab.module = "tests.apps.flows"
    for app in (flows.app, flow_loops.app):
        app.conf.broker_url = app.conf.result_backend = lab.db.url
    yield lab
    flows.app.close()
    flow_loops.app.close()


def assert_cancelled(*handles: Handle[Any]) -> None:
    for handle in handles:
        with pytest.raises(TaskRevoked):
            handle.get(RESULT_S)
        assert handle.status == "REVOKED"


@pytest.mark.parametrize("wire", ["celery", "fastq"])
def test_what_was_cancelled_while_no_worker_was_there_does_not_run(flow: Lab, wire: Any) -> None:
    with Producer(flow.db.url, wire=wire) as producer:
        single = producer.send("f.note", ["single"])
        later = producer.send("f.note", ["later"], countdown=3600)
        kept = producer.send("f.note", ["kept"])
        single.cancel()
        later.cancel(terminate=True)
        flow.worker(concurrency=2)
        assert kept.get(RESULT_S) == "kept"
        assert_cancelled(single, later)
    assert flow.ledger.tokens("note") == ["kept"]
    eventually(flow.idle)


def test_a_group_and_tasks_of_an_event_loop_are_cancelled(flow: Lab) -> None:
    async def send() -> str:
        async with AsyncProducer(flow.db.url) as producer:
            handle = await producer.send("f.note", ["async"])
            await handle.cancel()
            return handle.id

    many = group(flows.note.s(f"m{n}") for n in range(3)).delay()
    many.cancel()
    one = flows.app.AsyncResult(asyncio.run(send()))
    flow.worker(concurrency=2)
    assert_cancelled(*many, one)
    assert flow.ledger.tokens("note") == []


def test_a_waiting_worker_lets_go_of_what_is_cancelled_and_a_later_one_knows(flow: Lab) -> None:
    worker = flow.worker(concurrency=1)
    eta = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    held, other = (flows.note.apply_async(("held",), eta=eta), flows.note.apply_async(("other",), countdown=3600))
    eventually(lambda: sum(flow.held().values()) == 2)
    held.cancel()
    assert_cancelled(held)
    worker.kill()
    other.cancel()
    flow.worker(concurrency=1)
    assert_cancelled(other)
    assert flow.ledger.tokens("note") == []
    assert 0 < flow.db.client.ttl(KEY) <= 7 * 86_400


@pytest.mark.parametrize(
    ("task", "app"), [(flows.works, "flows"), (flow_loops.works, "flow_loops")], ids=["function", "coroutine"]
)
def test_what_runs_is_ended_if_asked_for(flow: Lab, task: Any, app: str) -> None:
    flow.worker("-Q", "celery,loops", app=f"tests.apps.{app}", concurrency=1)
    ended, goes_on = task.delay("never"), task.delay("opened")
    eventually(lambda: ended.status == "PROGRESS")
    ended.cancel(terminate=True)
    assert_cancelled(ended)
    eventually(lambda: goes_on.status == "PROGRESS")
    goes_on.cancel()
    eventually(lambda: goes_on.id.encode() in flow.db.client.zrange(KEY, 0, -1))
    flow.ledger.open_gate("opened")
    assert goes_on.get(RESULT_S) == 1


def test_the_end_of_a_task_is_told_before_its_replacement_begins_another(flow: Lab) -> None:
    worker = flow.worker(concurrency=1)
    ended, other = flows.lingers.delay("one"), flows.lingers.delay("other")
    eventually(lambda: flow.ledger.count("start", "one"))
    ended.cancel(terminate=True)
    [nursery] = psutil.Process(worker.pid).children()
    eventually(lambda: len(nursery.children()) == 2, saying="the replacement is there")
    nursery.suspend()  # it says how its child has ended; that it has, the engine sees before
    try:
        flow.ledger.open_gate("one-end")
        child = psutil.Process(flow.ledger.pid_of("start", "one"))
        eventually(lambda: child.status() == psutil.STATUS_ZOMBIE)
        steadily(lambda: not flow.ledger.count("start", "other"), for_s=0.5)
    finally:
        nursery.resume()
    assert_cancelled(ended)
    flow.ledger.open_gate("other")
    flow.ledger.open_gate("other-end")
    assert other.get(RESULT_S) == 1


def test_a_late_task_that_was_cancelled_does_not_run_again_after_a_crash(flow: Lab) -> None:
    worker = flow.worker("-O", "fair", concurrency=1)
    handle = flows.waits_late.delay("never")
    eventually(lambda: flow.ledger.count("late", "never") == 1)
    handle.cancel()
    worker.kill()
    flow.worker(concurrency=1)
    assert_cancelled(handle)
    assert flow.ledger.count("late", "never") == 1


def test_stock_workers_obey(flow: Lab) -> None:
    flow.worker("-Q", "stock", engine="celery", app="tests.apps.stock_flows", concurrency=1)
    handle = flows.add.apply_async((1, 1), queue="stock", countdown=3600)
    eventually(lambda: sum(flow.held().values()) == 1)
    handle.cancel()
    assert_cancelled(handle)


def test_a_broker_that_is_away_is_said() -> None:
    with Producer("redis://127.0.0.1:1/0") as producer, pytest.raises(BrokerUnavailable):
        producer.handle("some-id").cancel()
