"""What a stock receiver of events hears of a native worker: of functions, and of coroutines in an event loop."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import celery
import pytest

from fastq.errors import TaskRevoked
from tests.apps import native, native_loops
from tests.eventually import eventually
from tests.fix_events import Listener
from tests.fix_lab import RESULT_S, Lab

pytestmark = pytest.mark.fastq_only

PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)


@pytest.fixture
def client(lab: Lab) -> Iterator[Any]:
    """Celery's own, on the broker of the lab."""
    found = celery.Celery(broker=lab.db.url, backend=lab.db.url)
    yield found
    for app in (found, native.app, native_loops.app):
        app.close()


def listen(lab: Lab, module: Any, client: Any) -> Listener:
    """To events of the tasks of this application, which is sent to from here."""
    lab.module = module.__name__
    module.app.conf.broker_url = module.app.conf.result_backend = lab.db.url
    return Listener(client, lab.db)


@pytest.mark.parametrize("module", [native, native_loops], ids=["functions", "coroutines"])
def test_the_life_of_tasks_is_told(lab: Lab, module: Any, client: Any) -> None:
    with listen(lab, module, client) as heard:
        lab.worker("-E", concurrency=1)
        good, bad, again = module.add.delay(1, 2), module.fail.delay("lost"), module.flaky.delay(1)
        heard.wait(good.id, "task-received", "task-started", "task-succeeded")
        heard.wait(bad.id, "task-received", "task-started", "task-failed")
        lives = ["task-received", "task-received", "task-retried", "task-started", "task-started", "task-succeeded"]
        eventually(lambda: sorted(heard.types(again.id)) == lives, within_s=RESULT_S)
        late = module.add.apply_async((1, 2), expires=PAST)
        heard.wait(late.id, "task-revoked")
        nobody = module.app.send_task("nobody.has.it")
        heard.wait(nobody.id, "task-failed")
    succeeded, failed = heard.of(good.id)[-1], heard.of(bad.id)[-1]
    assert succeeded["result"] == "3"
    assert 0 < succeeded["runtime"] < RESULT_S
    assert failed["exception"] == "LookupError('lost')"
    assert "raise LookupError(text)" in failed["traceback"]
    [retried] = heard.named("task-retried")
    assert retried["uuid"] == again.id
    assert retried["exception"] == "ValueError('again')"
    assert heard.of(late.id)[-1]["expired"] is True
    assert heard.of(nobody.id)[-1]["exception"] == "NotRegistered('nobody.has.it')"


def test_a_rejected_message_is_told(lab: Lab, client: Any) -> None:
    with listen(lab, native, client) as heard:
        lab.worker("-E", concurrency=1)
        rejected = native.rejected.delay()
        heard.wait(rejected.id, "task-received", "task-started", "task-rejected")
        hard = native.hard.delay()
        heard.wait(hard.id, "task-started", "task-failed")
    assert heard.of(rejected.id)[-1]["requeue"] is False
    assert "0.3 s" in heard.of(hard.id)[-1]["exception"]


@pytest.mark.parametrize("module", [native, native_loops], ids=["functions", "coroutines"])
def test_they_are_told_from_when_somebody_asks(lab: Lab, module: Any, client: Any) -> None:
    with listen(lab, module, client) as heard:
        lab.worker(concurrency=1)
        assert module.add.delay(1, 2).get(RESULT_S) == 3
        client.control.enable_events(reply=True, limit=1)
        good = module.add.delay(2, 2)
        heard.wait(good.id, "task-received", "task-started", "task-succeeded")
        client.control.disable_events(reply=True, limit=1)
        assert module.add.delay(3, 2).get(RESULT_S) == 5
        client.control.enable_events(reply=True, limit=1)
        last = module.add.delay(4, 2)
        heard.wait(last.id, "task-succeeded")
    assert {event["uuid"] for event in heard.heard if "uuid" in event} == {good.id, last.id}


def test_what_expires_between_the_engine_and_its_start_is_not_run() -> None:
    with native.app.testing() as eager:
        late = native.add.apply_async((1, 2), expires=PAST)
        with pytest.raises(TaskRevoked, match="expired"):
            late.get()
        assert not eager.ran
        assert native.add.delay(1, 2).get() == 3
