"""Unique tasks: one waiting or running per key, whatever becomes of it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastq import FastQ
from fastq.app.beat import open_store
from fastq.errors import OptionError, TaskFailed, TaskRevoked
from fastq.producer.once import OncePost
from fastq.producer.post import Lost
from fastq.transport.redis.locks import Lock
from tests.apps import once
from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab

pytestmark = pytest.mark.fastq_only


@pytest.fixture(scope="module")
def fleet(module_lab: Lab) -> Iterator[Lab]:
    """A worker with functions, and one with coroutines."""
    for app in (once.app, once.loops):
        app.conf.broker_url = app.conf.result_backend = module_lab.db.url
    module_lab.worker("-Q", "fastq", app="tests.apps.once:app", concurrency=2)
    module_lab.worker("-Q", "loops", app="tests.apps.once:loops", concurrency=1)
    yield module_lab
    once.app.close()
    once.loops.close()


def open_gate(lab: Lab, token: str) -> None:
    (lab.folder / f"gate-{token}").touch()


def runners(lab: Lab, token: str) -> list[int]:
    return [int(path.name.rsplit("-", 1)[1]) for path in lab.folder.glob(f"ran-{token}-*")]


def locks(lab: Lab) -> list[str]:
    return [key for key in lab.db.keys("*") if "fastq:unique:" in key and "short" not in key]


def test_a_second_send_is_the_first(fleet: Lab) -> None:
    first = once.gated.delay("a")
    assert not first.existed
    assert (fleet.db.client.pttl("once:fastq:unique:tests.apps.once.gated:a") or 0) > 3_500_000
    eventually(lambda: runners(fleet, "a"), saying="it runs")
    second = once.gated.apply_async(["a"], {"more": 2})
    assert (second.existed, second.id) == (True, first.id)
    other = once.gated.apply_async(["a"], unique=False)
    assert not other.existed
    open_gate(fleet, "a")
    assert first.get(RESULT_S) == second.get(RESULT_S)
    third = once.gated.delay("a")  # the lock is gone when the result is there
    assert not third.existed
    assert third.get(RESULT_S)
    assert other.get(RESULT_S)
    assert not locks(fleet)


def test_arguments_by_name_and_by_default_are_the_same(fleet: Lab) -> None:
    key = "once:fastq:unique:tests.apps.once.silent:" + '{"x": 1}'
    fleet.db.client.set(key, "somebody")
    for handle in (once.silent.delay(), once.silent.delay(1), once.silent.delay(x=1)):
        assert (handle.existed, handle.id) == (True, "somebody")
    assert not once.silent.delay(2).existed
    fleet.db.client.delete(key)
    assert not once.silent.delay().existed
    eventually(lambda: not locks(fleet), saying="both have ended")


def test_a_retry_keeps_the_lock(fleet: Lab) -> None:
    first = once.retried.delay("r")
    eventually(lambda: first.status == "RETRY", saying="it waits for its next attempt")
    assert (fleet.db.client.pttl(locks(fleet)[0]) or 0) > 3_600_000
    assert once.retried.delay("r").id == first.id
    open_gate(fleet, "r")
    assert first.get(RESULT_S) == 1
    assert not locks(fleet)


def test_a_failure_gives_it_back(fleet: Lab) -> None:
    for _ in range(2):
        handle = once.fails.delay(1, y=2)
        assert not handle.existed
        with pytest.raises(TaskFailed):
            handle.get(RESULT_S)


def test_what_expired_gives_it_back(fleet: Lab) -> None:
    handle = once.gated.apply_async(["x"], expires=-1)
    with pytest.raises(TaskRevoked):
        handle.get(RESULT_S)
    assert not locks(fleet)


def test_a_killed_child_gives_it_back(fleet: Lab) -> None:
    handle = once.gated.delay("k")
    eventually(lambda: runners(fleet, "k"), saying="it runs")
    os.kill(runners(fleet, "k")[0], signal.SIGKILL)
    with pytest.raises(TaskFailed, match="ChildLost"):
        handle.get(RESULT_S)
    assert not locks(fleet)


def test_what_is_requeued_keeps_it(fleet: Lab) -> None:
    handle = once.again.delay("q")
    eventually(lambda: runners(fleet, "q"), saying="it runs")
    os.kill(runners(fleet, "q")[0], signal.SIGKILL)
    eventually(lambda: len(runners(fleet, "q")) == 2, saying="it runs again")
    assert once.again.delay("q").id == handle.id
    open_gate(fleet, "q")
    handle.get(RESULT_S)
    assert not locks(fleet)


def test_another_ones_lock_stays(fleet: Lab) -> None:
    handle = once.gated.delay("o")
    eventually(lambda: runners(fleet, "o"), saying="it runs")
    (key,) = locks(fleet)
    fleet.db.client.set(key, "another")
    open_gate(fleet, "o")
    handle.get(RESULT_S)
    assert fleet.db.client.get(key) == b"another"
    fleet.db.client.delete(key)


def test_a_lock_expires(fleet: Lab) -> None:
    first = once.short.delay(1)
    assert once.short.delay(1).id == first.id
    eventually(lambda: not once.short.delay(1).existed, saying="the lock has expired")


def test_coroutines_and_asyncio_senders(fleet: Lab) -> None:
    async def twice() -> tuple[Any, Any]:
        found = await asyncio.gather(once.awaited.adelay("c"), once.awaited.adelay("c"))
        open_gate(fleet, "c")
        first, second = sorted(found, key=lambda handle: handle.existed)
        assert await first.get(RESULT_S) == 1
        await once.loops.async_producer.close()
        return first, second

    first, second = asyncio.run(twice())
    assert (first.existed, second.existed, second.id) == (False, True, first.id)
    late = once.endless.delay("c")
    with pytest.raises(TaskFailed):
        late.get(RESULT_S)
    assert not locks(fleet)


def test_a_schedule_leaves_out_what_still_waits(fleet: Lab) -> None:
    _, store = open_store(once.app)
    lead = store.campaign("here").lead
    store.enter(lead, {"tick": "every 1 s"}, remembered={"tick": 1})

    def fire(due_ms: int, task_id: str) -> str:
        queue, message, lock = once.app.compose("tests.apps.once.waits", (7,), {}, {"task_id": task_id})
        to: Any = {"queue": queue, "message": message, "lock": lock, "task_id": task_id}
        return store.fire(lead, "tick", due_ms=due_ms, spec="every 1 s", **to)

    assert [fire(2, "one"), fire(3, "two"), fire(3, "two")] == ["sent", "held", "done"]
    assert fleet.db.length("once:nobody-else") == 1
    (lock,) = locks(fleet)
    assert fleet.db.client.get(lock) == b"one"
    assert once.waits.delay(7).id == "one"
    fleet.db.client.delete(lock)
    assert fire(4, "four") == "sent"
    fleet.db.client.delete(lock)
    store.leave(lead)


def test_results_elsewhere(fleet: Lab, other_lab: Lab) -> None:
    once.loops.close()
    once.loops.conf.result_backend = other_lab.db.url
    try:
        fleet.worker("-Q", "apart", app="tests.apps.once:loops", concurrency=1, backend=other_lab.db.url)
        open_gate(fleet, "e")
        assert once.awaited.apply_async(["e"], queue="apart").get(RESULT_S) == 1
        eventually(lambda: not locks(fleet), saying="it is given back")
    finally:
        once.loops.close()
        once.loops.conf.result_backend = fleet.db.url


def test_what_cannot_be_unique_is_refused() -> None:
    app = FastQ("refused", broker="redis://127.0.0.1:1/0")
    for options in ({"unique": "z"}, {"unique": 3}, {"unique": True, "unique_for": 0}):
        with pytest.raises(OptionError, match="unique"):
            app.task(**options)(once.plain.function)
    with pytest.raises(OptionError, match="is unique"):
        once.gated.s("a")
    assert once.gated.signature(["a"], unique=False).fields["args"] == ["a"]
    with pytest.raises(OptionError, match="is not unique"):
        once.plain.apply_async([1], unique=True)
    with pytest.raises(OptionError, match="no str"):
        app.task(unique=lambda x: x)(once.plain.function).delay(1)


def test_an_answer_that_was_lost_is_asked_for_again(fleet: Lab) -> None:
    push = once.app.producer.compose("nobody.has.it", queue="doubt")
    lines = once.app.producer._lines
    for first_was_applied in (True, False):
        fleet.db.client.delete("once:doubt", "lock")
        post = OncePost(push, Lock("lock", 60_000), retries=1, confirm=None, where="here")
        if first_was_applied:
            lines.ask(*post.request())
        post.lost(Lost("cut"), lines.explain)
        assert post.doubtful
        lines.deliver(post)
        post.finish()
        assert (post.existed, post.holder) == (False, push.ids[0])
        assert fleet.db.length("once:doubt") == 1
    again = OncePost(push, Lock("lock", 60_000), retries=1, confirm=None, where="here")
    lines.deliver(again)
    assert (again.existed, again.holder) == (True, push.ids[0])
    fleet.db.client.delete("once:doubt", "lock")


def test_children_of_a_test_have_locks_too(tmp_path: Path) -> None:
    app = FastQ("locked", broker="redis://127.0.0.1:1/0")

    @app.task(unique=True)
    def gate(token: str) -> int:
        while not (tmp_path / token).exists():
            time.sleep(0.01)
        return 1

    with app.testing(children=1):
        first = gate.delay("a")
        assert gate.delay("a").id == first.id
        (tmp_path / "a").touch()
        assert first.get(RESULT_S) == 1
        again = gate.delay("a")
        assert not again.existed
        assert again.get(RESULT_S) == 1


def test_eager_tasks_need_no_lock() -> None:
    with once.app.testing():
        assert [once.silent.delay(3).existed for _ in range(2)] == [False, False]
