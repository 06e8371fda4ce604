"""What coroutine tasks do in a worker: beside each other, in their own contexts, within their limits."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import celery
import pytest

from fastq import Producer
from fastq.errors import TaskFailed, TaskRevoked
from tests.apps import native_loops
from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab
from tests.fix_proxy import Proxy

pytestmark = [pytest.mark.fastq_only, pytest.mark.usefixtures("shop")]


@pytest.fixture(scope="module")
def shop(module_lab: Lab) -> Iterator[Lab]:
    """A lab whose worker runs `tests.apps.native_loops` in one child; the application of this process sends to it."""
    module_lab.module = "tests.apps.native_loops"
    native_loops.app.conf.broker_url = native_loops.app.conf.result_backend = module_lab.db.url
    module_lab.worker(concurrency=1)
    yield module_lab
    native_loops.app.close()


def test_quick_tasks_overtake_slow_ones(shop: Lab) -> None:
    slow = native_loops.nap.delay("slow", 1.0)
    quick = [native_loops.add.delay(n, 1) for n in range(300)]
    assert [handle.get(RESULT_S) for handle in quick] == [*range(1, 301)]
    assert slow.get(RESULT_S) == "slow"
    assert len(shop.workers[0].children) == 1


def test_each_task_has_its_own_context() -> None:
    handles = [native_loops.who.delay(f"w{n}") for n in range(50)]
    assert [handle.get(RESULT_S) for handle in handles] == [
        ["nobody's", f"w{n}", f"w{n}", handle.id] for n, handle in enumerate(handles)
    ]


@pytest.mark.parametrize("wire", ["celery", "fastq"])
def test_models_travel_over_both_wires(wire: Any, shop: Lab) -> None:
    person = native_loops.Person.model_validate(
        {"fullName": "Ann", "home": "http://localhost/", "debts": {uuid.UUID(int=1): Decimal("1.10")}}
    )
    with Producer(shop.db.url, wire=wire, queue="celery", result_url=shop.db.url) as producer:
        handle = producer.send(
            "tests.apps.native_loops.married", (person, {1: person, 2: 3}), decode=native_loops.married.decode
        )
        assert handle.get(RESULT_S) == [person, person]


@pytest.mark.parametrize(
    ("task", "args", "kind", "text"),
    [
        (native_loops.add, ("x", 2), "ArgumentError", "argument 'x' is 'x': Expected `int`, got `str`"),
        (native_loops.add, (1,), "ArgumentError", "missing a required argument: 'y'"),
        (native_loops.fail, ("lost",), "LookupError", "lost"),
        (native_loops.flaky, (3,), "ValueError", "again"),
        (native_loops.soft, (False,), "SoftTimeLimitExceeded", "soft time limit"),
        (native_loops.hard, ("hard",), "TimeLimitExceeded", "0.3 s"),
        (native_loops.unwritable, (), "TypeError", "not JSON serializable"),
        (native_loops.cancel_yourself, (), "CancelledError", ""),
        (native_loops.function_hard, (), "TimeLimitExceeded", "0.3 s"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_goes_wrong_is_in_the_result(task: Any, args: tuple[Any, ...], kind: str, text: str) -> None:
    with pytest.raises(TaskFailed) as caught:
        native_loops.app.send_task(task.name, args).get(RESULT_S)
    assert kind in str(caught.value)
    assert text in str(caught.value)


def test_retries_are_counted() -> None:
    assert native_loops.flaky.delay(2).get(RESULT_S) == 2


def test_the_soft_limit_can_be_caught() -> None:
    assert native_loops.soft.delay(True).get(RESULT_S) == "cleaned up"
    assert native_loops.function_soft.delay().get(RESULT_S) == "cleaned up"


def test_a_function_runs_in_a_thread_and_holds_up_no_coroutine() -> None:
    function = native_loops.function.delay("f", 0.7)
    other = native_loops.function.delay("g", 0.0)
    assert native_loops.add.delay(1, 2).get(RESULT_S) == 3
    assert not function.ready()
    assert function.get(RESULT_S) == ["f", function.id, "fastq-task_0"]
    assert other.get(RESULT_S) == ["g", other.id, "fastq-task_0"]


@pytest.mark.parametrize("task", [native_loops.hooked, native_loops.hooked_function], ids=lambda task: task.__name__)
def test_hooks_may_be_coroutines_and_their_errors_change_nothing(shop: Lab, task: Any) -> None:
    good, bad = task.delay(2), task.delay(0)
    assert good.get(RESULT_S) == 5
    with pytest.raises(TaskFailed, match="ZeroDivisionError"):
        bad.get(RESULT_S)
    eventually(lambda: shop.ledger.count(f"{task.__name__}:int", good.id) == 1)
    eventually(lambda: shop.ledger.count(f"{task.__name__}:ZeroDivisionError", bad.id) == 1)


def test_a_hook_hears_of_a_task_that_was_ended(shop: Lab) -> None:
    handle = native_loops.hooked_hard.delay()
    eventually(lambda: shop.ledger.count("hooked_hard:TimeLimitExceeded", handle.id) == 1)


def test_one_of_many_is_revoked(shop: Lab) -> None:
    handles = [native_loops.nap.delay(f"r{n}", 1.5) for n in range(4)]
    eventually(lambda: all(shop.ledger.count("start", f"r{n}") for n in range(4)))
    celery.Celery(broker=shop.db.url).control.revoke(handles[2].id, terminate=True)
    with pytest.raises(TaskRevoked, match="terminated"):
        handles[2].get(RESULT_S)
    assert [handles[n].get(RESULT_S) for n in (0, 1, 3)] == ["r0", "r1", "r3"]
    assert shop.ledger.count("cancelled", "r2") == 1


def test_a_task_that_waits_for_the_broker_holds_up_no_other(proxy: Proxy, lab: Lab) -> None:
    lab.use("tests.apps.native_loops", broker=proxy.url(number=lab.db.number), backend=lab.db.url)
    lab.worker(concurrency=1)
    client = celery.Celery(broker=lab.db.url, backend=lab.db.url)
    first, then = (client.signature(native_loops.nap.name, args=args) for args in (("one", 0.7), (0.0,)))
    try:
        chain = (first | then).apply_async()
        retried = client.send_task(native_loops.flaky.name, (1,))
        client.send_task(native_loops.nap.name, ("other", 1.5))
        eventually(lambda: all(lab.ledger.count("start", token) for token in ("one", "other")))
        proxy.blackhole()
        eventually(lambda: lab.ledger.count("end", "one") == 1)
        eventually(lambda: lab.ledger.count("end", "other") == 1, within_s=2.5)
        assert lab.ledger.count("start", "one") == 1
        proxy.heal()
        assert (chain.get(timeout=RESULT_S), retried.get(timeout=RESULT_S)) == ("one", 1)
        assert lab.ledger.count("start", "one") == 2
    finally:
        client.close()


def test_an_end_by_verdict_whose_callbacks_wait_for_the_broker_holds_up_no_other(proxy: Proxy, lab: Lab) -> None:
    lab.use("tests.apps.native_loops", broker=proxy.url(number=lab.db.number), backend=lab.db.url)
    worker = lab.worker(concurrency=1)
    client = celery.Celery(broker=lab.db.url, backend=lab.db.url)
    calls = [client.signature(native_loops.nap.name, (token, 0.0), immutable=True) for token in ("late", "nobody")]
    try:
        ticking = client.send_task(native_loops.tick.name, ("tick", 3.2))
        late = client.send_task(native_loops.hard.name, ("hard",), link_error=calls[0])
        client.send_task("tests.nobody", (), countdown=1.0, link_error=calls[1])
        eventually(lambda: all(lab.ledger.count("start", token) for token in ("tick", "hard")))
        proxy.blackhole()
        # Longer than the engine gives a loop that is stuck.
        eventually(lambda: lab.ledger.count("end", "tick") == 1, within_s=5)
        assert not any(lab.ledger.count("start", token) for token in ("late", "nobody"))
        proxy.heal()
        assert ticking.get(timeout=RESULT_S) < 1.0
        with pytest.raises(Exception, match="time limit"):
            late.get(timeout=RESULT_S)
        eventually(lambda: all(lab.ledger.count("start", token) == 1 for token in ("late", "nobody")))
        assert lab.ledger.count("start", "tick") == lab.ledger.count("start", "hard") == 1
        assert "is stuck" not in worker.log
    finally:
        client.close()
