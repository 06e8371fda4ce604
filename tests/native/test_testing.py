"""`app.testing()`: tasks where they are sent, and with real children over the memory transport."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import msgspec
import pytest

from fastq import FastQ, Task, chain, chord, group
from fastq.app.settings import Wire
from fastq.errors import SurroundingsError, TaskFailed
from fastq.monitor.local import local_workers
from tests.eventually import eventually

pytestmark = pytest.mark.fastq_only


class Point(msgspec.Struct):
    x: int
    y: int = 0


def build(wire: Wire = "celery", **settings: Any) -> FastQ:
    """An application that nobody could import: its functions are closures."""
    app = FastQ("tested", broker="redis://127.0.0.1:1/0", wire=wire, **settings)

    @app.task(name="mirror")
    def mirror(point: Point) -> Point:
        return Point(point.y, point.x)

    @app.task(name="flaky", bind=True, max_retries=2, default_retry_delay=0.01)
    def flaky(self: Task[[int], int], failures: int) -> int:
        if self.request.retries < failures:
            raise self.retry(exc=ValueError("again"))
        return self.request.retries

    @app.task(name="outer")
    def outer(x: int) -> int:
        found: Point = app.tasks["mirror"].delay(Point(x)).get(5)
        return found.y

    @app.task(name="double")
    async def double(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    @app.task(name="fail")
    def fail() -> None:
        raise LookupError("lost")

    @app.task(name="process")
    def process() -> int:
        return os.getpid()

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task(name="load")
    def load() -> Any:
        return list(os.getloadavg())

    return app


@pytest.fixture(params=["celery", "fastq"])
def app(request: pytest.FixtureRequest) -> FastQ:
    return build(request.param)


def test_arguments_and_results_go_through_the_wire(app: FastQ) -> None:
    with app.testing():
        handle = app.tasks["mirror"].delay(Point(1, 2))
        assert handle.get() == Point(2, 1)
        assert (handle.status, handle.ready()) == ("SUCCESS", True)
        assert app.AsyncResult(handle.id).get() == {"x": 2, "y": 1}
        with pytest.raises(TaskFailed, match="Expected `int`, got `str`"):
            app.send_task("mirror", [{"x": "one"}]).get()
        with pytest.raises(TaskFailed, match="NotRegistered"):
            app.send_task("nobody.has.it").get()
        handle.forget()
        with pytest.raises(TimeoutError):
            handle.get()


def test_retries_are_executed_and_seen(app: FastQ) -> None:
    with app.testing() as eager:
        assert app.tasks["flaky"].delay(2).get() == 2
        assert [ran.state for ran in eager.ran] == ["RETRY", "RETRY", "SUCCESS"]
        with pytest.raises(TaskFailed, match="again"):
            app.tasks["flaky"].delay(3).get()


def test_a_task_gets_the_result_of_what_it_sends(app: FastQ) -> None:
    with app.testing() as eager:
        assert app.tasks["outer"].delay(7).get() == 7
        assert [ran.name for ran in eager.ran] == ["mirror", "outer"]


def test_coroutines_run_with_and_without_a_loop_around(app: FastQ) -> None:
    async def within() -> tuple[int, int]:
        return app.tasks["double"].delay(4).get(), await (await app.tasks["double"].adelay(5)).get()

    with app.testing():
        assert app.tasks["double"].delay(3).get() == 6
        assert asyncio.run(within()) == (8, 10)


def test_errors_are_raised_at_the_send_if_asked_for(app: FastQ) -> None:
    with app.testing(propagates=True), pytest.raises(LookupError, match="lost"):
        app.tasks["fail"].delay()


def test_apply_runs_a_task_here_as_in_celery(app: FastQ) -> None:
    assert app.tasks["process"].apply().get() == os.getpid()
    assert app.tasks["flaky"].apply((1,)).get() == 1
    with pytest.raises(TaskFailed, match="lost"):
        app.tasks["fail"].apply().get()


def test_the_settings_of_celery_do_the_same() -> None:
    app = build(task_always_eager=True, task_eager_propagates=True)
    assert app.tasks["outer"].delay(3).get() == 3
    with pytest.raises(LookupError):
        app.tasks["fail"].delay()


def test_whether_results_are_stored_travels_with_the_message() -> None:
    app = build(task_ignore_result=True)
    app.task(name="kept", ignore_result=False)(lambda: 3)
    with app.testing():
        assert app.tasks["add"].delay(1, 2).get() is None
        assert app.tasks["add"].apply_async((1, 2), ignore_result=False).get() == 3
        assert app.tasks["kept"].delay().get() == 3
        assert not app.send_task("nobody.has.it").ignored
        _key, message, _lock = app.compose("add", (1, 2), {}, {})
        assert '"ignore_result": true' in str(message)
        app.conf.task_routes = {"add": {"ignore_result": False}}
        assert app.tasks["add"].delay(1, 2).get() == 3


def test_workflows_run_to_their_end(app: FastQ) -> None:
    task = app.tasks
    with app.testing():
        assert chain(task["add"].s(1, 2), task["add"].s(10)).delay().get() == 13
        assert chord([task["add"].s(n, n) for n in range(3)], task["total"].s()).delay().get() == 6
        assert group(task["add"].s(1, 1), task["add"].s(2, 2)).delay().get() == [2, 4]


# ---------------------------------------------------------------------------- with children


def test_children_run_tasks_that_nobody_could_import(app: FastQ) -> None:
    before = app.conf.broker_url, app.conf.result_backend
    with app.testing(children=2) as worker:
        assert app.tasks["mirror"].delay(Point(1, 2)).get(5) == Point(2, 1)
        eventually(lambda: [one.ready_children for one in local_workers() if one.pid == worker.pid] == [2])
        # First, so that the other child has nothing to do: an attempt before a retry may still be ending there.
        assert app.tasks["outer"].delay(7).get(5) == 7
        assert app.tasks["flaky"].delay(2).get(5) == 2
        parts = [app.tasks["add"].s(n, n) for n in range(3)]
        assert chord(parts, app.tasks["total"].s()).delay().get(5) == 6
        assert group(parts).delay().get(5) == [0, 2, 4]
        child = app.tasks["process"].delay().get(5)
        assert child not in (os.getpid(), worker.pid)
        with pytest.raises(TaskFailed, match="lost"):
            app.tasks["fail"].delay().get(5)
    assert (app.conf.broker_url, app.conf.result_backend) == before
    assert not os.path.exists(f"/proc/{child}")
    assert not os.path.exists(f"/proc/{worker.pid}")


def test_what_was_patched_before_the_block_is_patched_in_children(monkeypatch: pytest.MonkeyPatch) -> None:
    app = build()
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.25, 0.125))
    with app.testing(children=1):
        assert app.tasks["load"].delay().get(5) == [0.5, 0.25, 0.125]


def test_a_worker_that_cannot_start_says_why() -> None:
    app = build(imports=["there.is.no.such.module"])
    with pytest.raises(SurroundingsError, match="No module named 'there'"), app.testing(children=1):
        pass
