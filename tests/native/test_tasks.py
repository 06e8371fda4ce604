"""What a native application's tasks do in a worker, seen by its own handles and by a stock Celery client."""

from __future__ import annotations

import asyncio
import datetime
from decimal import Decimal
from typing import Any

import celery
import pytest

from fastq import chain, group
from fastq.errors import TaskFailed
from tests.apps import native
from tests.apps.native import Item
from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab

pytestmark = [pytest.mark.fastq_only, pytest.mark.usefixtures("shop")]


def test_a_result_has_the_type_that_the_function_says() -> None:
    at = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.timezone.utc)
    found = native.total.delay([Item("a", Decimal("1.5")), Item("b", Decimal(2))], at).get(RESULT_S)
    assert found == Item("Item at 2026-03-01T12:00:00+00:00", Decimal("3.5"))


def test_a_function_without_annotations_takes_what_comes() -> None:
    assert native.loose.delay("x").get(RESULT_S) == ["x", 1]
    assert native.loose.apply_async(["x"], {"y": None}).get(RESULT_S) == ["x", None]


@pytest.mark.parametrize(
    ("task", "args", "kind", "text"),
    [
        (native.add, ("x", 2), "ArgumentError", "argument 'x' is 'x': Expected `int`, got `str`"),
        (native.add, (1,), "ArgumentError", "missing a required argument: 'y'"),
        (native.add, (1, 2, 3), "ArgumentError", "too many positional arguments"),
        (native.loose, (), "TypeError", "missing 1 required positional argument"),
        (native.fail, ("lost",), "LookupError", "lost"),
        (native.speechless, (), "Speechless", "Unrepresentable"),
        (native.flaky, (3,), "ValueError", "again"),
        (native.auto, (), "KeyError", "no such"),
        (native.leave, (3,), "ChildLost", "exitcode 3"),
        (native.soft, (), "SoftTimeLimitExceeded", "soft time limit"),
        (native.hard, (), "TimeLimitExceeded", "0.3 s"),
        (native.unwritable, (), "TypeError", "not JSON serializable"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_goes_wrong_is_in_the_result(task: Any, args: tuple[Any, ...], kind: str, text: str) -> None:
    with pytest.raises(TaskFailed) as caught:
        native.app.send_task(task.name, args).get(RESULT_S)
    assert kind in str(caught.value)
    assert text in str(caught.value)


def test_an_error_is_returned_if_asked_for() -> None:
    found = native.fail.delay("lost").get(RESULT_S, propagate=False)
    assert isinstance(found, TaskFailed)
    assert (found.exc_type, found.exc_args) == ("LookupError", ("lost",))
    both: Any = group([native.add.s(1, 2), native.fail.s("lost")])
    one, two = both.delay().join(timeout=RESULT_S, propagate=False)
    assert (one, type(two)) == (3, TaskFailed)
    assert native.add.delay(1, 2).get(timeout=RESULT_S, propagate=False) == 3

    async def awaited() -> Any:
        found = await (await native.fail.adelay("lost")).get(RESULT_S, propagate=False)
        await native.app.aclose()
        return found

    assert isinstance(asyncio.run(awaited()), TaskFailed)


def test_nobody_waits_for_a_result_that_is_not_stored() -> None:
    for handle in (
        native.silent.delay(),
        native.add.apply_async((1, 2), ignore_result=True),
        native.silent.s().delay(),
    ):
        assert handle.ignored
        assert handle.get() is None
        assert handle.wait().status == "PENDING"
        assert (handle.status, handle.ready()) == ("PENDING", False)
        again = native.app.AsyncResult(handle.id)
        with pytest.raises(TimeoutError):
            again.get(timeout=0.01)

    async def awaited() -> Any:
        found = await (await native.silent.adelay()).get()
        await native.app.aclose()
        return found

    assert asyncio.run(awaited()) is None
    assert native.silent.apply_async((3,), ignore_result=False).get(RESULT_S) == 3


def test_workflows_know_whose_results_are_not_stored() -> None:
    assert group([native.add.s(1, 2), native.silent.s()]).delay().get(RESULT_S) == [3, None]
    assert group([native.silent.s(), native.silent.s()]).delay().get() == [None, None]
    assert native.add.s(1, 2).apply_async(ignore_result=True).get() is None
    assert native.silent.s(4).set(ignore_result=False).delay().get(RESULT_S) == 4
    after: Any = chain(native.silent.s(1).set(ignore_result=False), native.add.s(2).set(ignore_result=True)).delay()
    assert (after.ignored, after.parent.get(RESULT_S)) == (True, 1)


def test_a_hook_that_leaves_the_process_changes_nothing_and_any_name_is_an_arguments() -> None:
    assert native.left_by_hook.delay(self=2, args=[1]).get(RESULT_S) == 3


def test_retries_are_counted() -> None:
    assert native.flaky.delay(2).get(RESULT_S) == 2


def test_hooks_hear_of_every_end_and_their_errors_change_nothing(shop: Lab) -> None:
    handles = {kind: native.hooked.delay(x) for kind, x in {"int": 2, "ZeroDivisionError": 0, "KeyError": None}.items()}
    for kind, handle in handles.items():
        assert handle.wait(RESULT_S).status == ("SUCCESS" if kind == "int" else "FAILURE")
    # Hooks are called after the next attempt was sent, which may have ended before in another child.
    told = {**handles, "Retry": handles["KeyError"]}
    eventually(lambda: all(shop.ledger.count(kind, handle.id) == 1 for kind, handle in told.items()))


def test_an_application_closes_what_an_event_loop_has_opened() -> None:
    async def scenario() -> None:
        for n in range(2):  # the second time anew
            handle = await native.add.adelay(n, 1)
            producer = native.app.async_producer
            assert await handle.get(RESULT_S) == n + 1
            await native.app.aclose()
            assert native.app.async_producer is not producer

    asyncio.run(scenario())


def test_a_stock_celery_client_sends_and_reads(shop: Lab) -> None:
    client = celery.Celery(broker=shop.db.url, backend=shop.db.url)
    try:
        assert client.send_task("tests.apps.native.add", (4, 5)).get(timeout=RESULT_S) == 9
        for kind in ("gzip", "zlib", "bzip2", "lzma"):  # and its retries are written without
            packed = client.send_task("tests.apps.native.flaky", (1,), compression=kind)
            assert packed.get(timeout=RESULT_S) == 1
        failed = client.send_task("tests.apps.native.fail", ("here",))
        with pytest.raises(LookupError, match="here"):
            failed.get(timeout=RESULT_S)
    finally:
        client.close()


def test_a_task_that_nobody_knows_is_a_failure(shop: Lab) -> None:
    with pytest.raises(TaskFailed, match="NotRegistered"):
        native.app.send_task("nobody.has.it").get(RESULT_S)
    assert shop.workers[0].log_lines("nobody.has.it")


def test_what_is_refused_leaves_no_result(shop: Lab) -> None:
    for task in (native.ignored, native.rejected):
        handle = task.delay()
        shop.workers[0].wait_log(handle.id)
        assert native.add.delay(1, 1).get(RESULT_S) == 2
        assert handle.status == "PENDING"
