"""Results: how long they are kept, and how large they may be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from fastq.errors import TaskFailed, TaskRevoked
from fastq.producer import Producer
from tests.apps import flow_loops, native
from tests.fix_lab import RESULT_S, Lab

pytestmark = pytest.mark.fastq_only

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def loops(shop: Lab) -> Iterator[Lab]:
    """The lab of the native application, with a worker for coroutines beside."""
    flow_loops.app.conf.broker_url = flow_loops.app.conf.result_backend = shop.db.url
    shop.worker("-Q", "loops", app="tests.apps.flow_loops", concurrency=1)
    yield shop
    flow_loops.app.close()


def ttl_s(lab: Lab, task_id: str) -> int:
    found: Any = lab.db.client.ttl(f"celery-task-meta-{task_id}")
    return int(found)


@pytest.mark.parametrize("task", [native.brief, native.brief_tracked, flow_loops.brief], ids=lambda task: task.name)
def test_results_of_a_task_are_kept_as_long_as_it_says(loops: Lab, task: Any) -> None:
    handle = task.delay()
    assert handle.get(RESULT_S) == 1
    assert 0 < ttl_s(loops, handle.id) <= 60


def test_so_are_failures_and_results_for_ever(loops: Lab) -> None:
    failed, lasting, other = native.brief_failure.delay(), native.lasting.delay(), native.add.delay(1, 1)
    with pytest.raises(TaskFailed, match="gone soon"):
        failed.get(RESULT_S)
    assert (lasting.get(RESULT_S), other.get(RESULT_S)) == (1, 2)
    assert 0 < ttl_s(loops, failed.id) <= 60
    assert ttl_s(loops, lasting.id) == -1
    assert 86_000 < ttl_s(loops, other.id) <= 86_400


@pytest.mark.parametrize("wire", ["celery", "fastq"])
@pytest.mark.parametrize("size", [5 * MEGABYTE, 50 * MEGABYTE], ids=["5", "50"])
def test_large_results_arrive(shop: Lab, wire: Any, size: int) -> None:
    with Producer(shop.db.url, wire=wire, timeout_s=30) as producer:
        handle = producer.send(native.text.name, [size])
        assert len(handle.get(2 * RESULT_S)) == size
        handle.forget()


def test_large_results_of_coroutines_arrive(loops: Lab) -> None:
    handle = flow_loops.text.delay(70 * MEGABYTE)
    assert len(handle.get(2 * RESULT_S)) == 70 * MEGABYTE
    handle.forget()
    assert flow_loops.brief.delay().get(RESULT_S) == 1


@pytest.mark.parametrize("task", [native.text, native.retried_text], ids=["plain", "retried"])
def test_what_is_too_large_is_said(lab: Lab, task: Any) -> None:
    lab.use("tests.apps.native", result_max_bytes=20_000)
    lab.worker(concurrency=1)
    with Producer(lab.db.url) as producer:
        too_large, fits = producer.send(task.name, [20_000]), producer.send(task.name, [10_000])
        with pytest.raises(TaskFailed, match=r"ResultTooLarge.*20,\d\d\d bytes.*result_max_bytes allows 20,000"):
            too_large.get(RESULT_S)
        assert len(fits.get(RESULT_S)) == 10_000


def test_looks_at_a_result_have_celery_names(loops: Lab) -> None:
    returned, raised = native.add.delay(2, 3), native.brief_failure.delay()
    waiting = native.add.apply_async((2, 3), countdown=3600)
    waiting.revoke()
    for handle in (returned, raised, waiting):
        handle.wait(RESULT_S)

    assert [handle.state for handle in (returned, raised, waiting)] == ["SUCCESS", "FAILURE", "REVOKED"]
    assert [handle.successful() for handle in (returned, raised, waiting)] == [True, False, False]
    assert [handle.failed() for handle in (returned, raised, waiting)] == [False, True, False]
    assert returned.result == 5
    assert isinstance(raised.result, TaskFailed)
    assert isinstance(waiting.result, TaskRevoked)
    assert "gone soon" in str(raised.traceback)
    assert returned.traceback is None
    assert native.app.AsyncResult("nobody").result is None


def test_so_have_those_of_coroutines(loops: Lab) -> None:
    async def looks() -> list[bool]:
        returned, waiting = await native.add.adelay(2, 3), await native.add.aapply_async((2, 3), countdown=3600)
        await waiting.revoke()
        await asyncio.gather(returned.wait(RESULT_S), waiting.wait(RESULT_S))
        found = [await returned.successful(), await returned.failed()]
        found += [await waiting.successful(), await waiting.failed()]
        await native.app.aclose()
        return found

    assert asyncio.run(looks()) == [True, False, False, False]
