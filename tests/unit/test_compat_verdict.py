"""Tasks that ended without their child: what a living child says in Celery's name."""

from __future__ import annotations

import json
import logging
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, signals

from fastq import _core
from fastq.program import Verdict, join_verdict, split_verdict
from tests.child_lab import ChildLab, stored
from tests.core.task_ring import KIND_OUTCOME, envelope

KEY = b"celery-task-meta-11111111-2222-4333-8444-555555555555"
LOST = Verdict(kind="lost", reason="Worker exited prematurely: signal 9 (SIGKILL) Job: 12.", started=True, pid=7)
TIMEOUT = Verdict(kind="timeout", limit_s=2.0, started=True, pid=7)

_seen_by_errback: list[Any] = []


def test_every_kind_of_verdict_is_counted() -> None:
    assert set(_core.VERDICTS) == set(typing.get_args(typing.get_type_hints(Verdict)["kind"]))


def work() -> int:
    return 1


def errback(request: Any, error: BaseException, traceback: Any) -> None:
    _seen_by_errback.append((request.id, repr(error)))


def make_lab(*, fast: bool = True, **options: Any) -> ChildLab:
    app = Celery("lab", broker="memory://", backend="redis://127.0.0.1:1/0", set_as_current=False)
    app.task(name="t.work", shared=False, **options)(work)
    app.task(name="t.errback", shared=False)(errback)
    app.finalize()
    return ChildLab(app, fast=fast)


class Judged:
    """One verdict, carried out."""

    def __init__(self, lab: ChildLab, verdict: Verdict, message: bytes) -> None:
        lab.ring.put(join_verdict(verdict, message), kind=_core.VERDICT, flags=_core.LATE)
        answers = lab.run()
        self.outcomes = [answer.outcome for answer in answers if answer.kind == KIND_OUTCOME]
        self.requeued = [answer.data for answer in answers if answer.outcome == _core.REQUEUE]
        results = [answer for answer in answers if answer.outcome != _core.REQUEUE]
        self.metas = [json.loads(_value_of(words)) for words in stored(results)]
        self.redis = lab.redis.sent


def _value_of(words: list[bytes]) -> bytes:
    return words[4] if words[0] == b"EVAL" else words[-1]


@pytest.fixture
def labs() -> Iterator[Callable[..., ChildLab]]:
    made: list[ChildLab] = []

    def make(**options: Any) -> ChildLab:
        made.append(make_lab(**options))
        return made[-1]

    yield make
    for lab in made:
        lab.close()


@pytest.fixture
def failures() -> Iterator[list[Any]]:
    seen: list[Any] = []

    def receive(sender: Any, task_id: str, exception: BaseException, **_facts: Any) -> None:
        seen.append((sender.name, task_id, repr(exception)))

    signals.task_failure.connect(receive)
    yield seen
    signals.task_failure.disconnect(receive)


def test_a_verdict_survives_the_ring() -> None:
    assert split_verdict(join_verdict(LOST, b"{}")) == (LOST, b"{}")


def test_a_lost_task_fails(labs: Any, failures: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    judged = Judged(labs(), LOST, envelope("t.work"))
    assert judged.outcomes == [_core.ACK]
    (meta,) = judged.metas
    assert (meta["status"], meta["traceback"], meta["children"]) == ("FAILURE", None, [])
    assert meta["result"] == {
        "exc_type": "WorkerLostError",
        "exc_message": ["Worker exited prematurely: signal 9 (SIGKILL) Job: 12."],
        "exc_module": "billiard.exceptions",
    }
    assert failures[0][:2] == ("t.work", "11111111-2222-4333-8444-555555555555")
    assert "Task handler raised error: WorkerLostError(" in caplog.text


def test_a_lost_task_that_succeeded_before(labs: Any, failures: list[Any]) -> None:
    lab = labs(acks_late=True)
    lab.redis.stored[KEY] = json.dumps({"status": "SUCCESS", "result": 1, "traceback": None})
    judged = Judged(lab, LOST, envelope("t.work"))
    assert (judged.outcomes, judged.metas, failures) == ([_core.ACK], [], [])


def test_a_lost_late_task_fails_and_is_acknowledged(labs: Any) -> None:
    judged = Judged(labs(acks_late=True), LOST, envelope("t.work"))
    assert judged.outcomes == [_core.ACK]
    assert judged.metas[0]["status"] == "FAILURE"


def test_a_lost_late_task_is_rejected_if_failures_are_not_acknowledged(labs: Any) -> None:
    judged = Judged(labs(acks_late=True, acks_on_failure_or_timeout=False), LOST, envelope("t.work"))
    assert judged.outcomes == [_core.REJECT]


def test_a_lost_late_task_goes_back_if_it_asks_for_that(labs: Any, failures: list[Any]) -> None:
    judged = Judged(labs(acks_late=True, reject_on_worker_lost=True), LOST, envelope("t.work"))
    assert (judged.outcomes, judged.metas, failures) == ([_core.REQUEUE], [], [])
    message = json.loads(judged.requeued[0])
    assert message["headers"]["redelivered"] is True
    assert message["properties"]["delivery_tag"] != "77777777-2222-4333-8444-555555555555"


def test_a_lost_task_is_sent_again_if_it_asks_for_that(labs: Any) -> None:
    lab = labs(acks_late=True, retry_on_worker_lost=True, default_retry_delay=1)
    judged = Judged(lab, LOST, envelope("t.work"))
    assert judged.outcomes == [_core.ACK]
    assert [meta["status"] for meta in judged.metas] == ["RETRY"]
    with lab.app.connection_for_read() as connection:
        message = connection.SimpleQueue("celery").get(timeout=5)
    assert message.headers["retries"] == 1


def test_errbacks_of_a_lost_task_are_called(labs: Any) -> None:
    lab = labs()
    _seen_by_errback.clear()
    embed = {"callbacks": None, "errbacks": [lab.app.tasks["t.errback"].s()], "chain": None, "chord": None}
    judged = Judged(lab, LOST, envelope("t.work", embed=embed))
    assert [found[0] for found in _seen_by_errback] == ["11111111-2222-4333-8444-555555555555"]
    # Whoever is told may look: so it is stored at once, by the backend itself.
    assert [words[0] for words in judged.redis] == ["GET", "GET", "SETEX", "PUBLISH"]
    assert judged.metas == []


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ({}, _core.ACK),
        ({"acks_late": True}, _core.ACK),
        ({"acks_late": True, "acks_on_failure_or_timeout": False}, _core.REQUEUE),
    ],
)
def test_a_hard_time_limit(
    labs: Any, options: dict[str, Any], outcome: int, failures: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    judged = Judged(labs(**options), TIMEOUT, envelope("t.work"))
    assert judged.outcomes == [outcome]
    assert judged.metas[0]["result"]["exc_type"] == "TimeLimitExceeded"
    assert judged.metas[0]["result"]["exc_message"] == [2]
    assert "Hard time limit (2s) exceeded for t.work[11111111-2222-4333-8444-555555555555]" in caplog.text
    assert failures == [("t.work", "11111111-2222-4333-8444-555555555555", "TimeLimitExceeded(2)")]


@pytest.mark.parametrize(("kind", "reason"), [("expired", "expired"), ("revoked", "revoked")])
def test_discarded_tasks(labs: Any, kind: Any, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "celery.worker.request")
    revoked: list[Any] = []

    def receive(request: Any, terminated: bool, signum: Any, expired: bool, **_facts: Any) -> None:
        revoked.append((request.id, terminated, signum, expired))

    signals.task_revoked.connect(receive)
    judged = Judged(labs(), Verdict(kind=kind), envelope("t.work"))
    signals.task_revoked.disconnect(receive)
    assert judged.outcomes == [_core.ACK]
    assert judged.metas[0]["status"] == "REVOKED"
    assert judged.metas[0]["result"]["exc_message"] == [reason]
    assert revoked == [("11111111-2222-4333-8444-555555555555", False, None, kind == "expired")]
    assert "Discarding revoked task: t.work[11111111-2222-4333-8444-555555555555]" in caplog.text


def test_a_terminated_task(labs: Any) -> None:
    judged = Judged(labs(), Verdict(kind="terminated", reason="15"), envelope("t.work"))
    assert judged.metas[0]["result"]["exc_message"] == ["terminated"]


def test_a_task_cancelled_with_its_worker(labs: Any) -> None:
    judged = Judged(labs(), Verdict(kind="cancelled"), envelope("t.work"))
    assert judged.outcomes == [_core.ACK]
    assert [meta["status"] for meta in judged.metas] == ["RETRY"]
    late = Judged(labs(acks_late=True), Verdict(kind="cancelled"), envelope("t.work"))
    assert (late.outcomes, late.redis) == ([_core.REQUEUE], [])


def test_an_unknown_task_fails(labs: Any, caplog: pytest.LogCaptureFixture) -> None:
    unknown: list[Any] = []

    def receive(name: str, id: str, **_facts: Any) -> None:  # noqa: A002
        unknown.append((name, id))

    signals.task_unknown.connect(receive)
    judged = Judged(labs(), Verdict(kind="unknown", reason="t.nobody"), envelope("t.nobody"))
    signals.task_unknown.disconnect(receive)
    assert judged.outcomes == [_core.REJECT]
    assert judged.metas[0]["result"]["exc_message"] == ["t.nobody"]
    assert judged.metas[0]["result"]["exc_type"] == "NotRegistered"
    assert "Received unregistered task of type 't.nobody'" in caplog.text
    assert unknown == [("t.nobody", "11111111-2222-4333-8444-555555555555")]


def test_an_ignored_result_is_ignored_here_too(labs: Any) -> None:
    assert Judged(labs(), LOST, envelope("t.work", ignore_result=True)).metas == []
    assert Judged(labs(), Verdict(kind="expired"), envelope("t.work", ignore_result=True)).metas == []
