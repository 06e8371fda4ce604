"""Damaged messages: a defined end for each, where Celery has one Celery's, and the child lives on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.app import trace as celery_trace

from fastq import _core
from tests.child_lab import ChildLab, stored
from tests.core.task_ring import KIND_OUTCOME, envelope

GOLDEN = Path(__file__).parent.parent / "celery" / "golden" / "malformed-messages.json"
#: Celery's worker ends over a name that is a list; here nobody has registered it, like the number 5.
UNREGISTERED = ("task-list",)
#: The engine refuses this one before a child sees it.
THE_ENGINES = ("timelimit-bad",)
CASES: dict[str, dict[str, Any]] = {case["case"]: case for case in json.loads(GOLDEN.read_text())["cases"]}


def add(x: Any, y: Any) -> Any:
    return x + y


@pytest.fixture
def lab() -> Iterator[ChildLab]:
    celery_trace._install_stack_protection()
    app = Celery("lab", broker="memory://", backend="redis://127.0.0.1:1/0", set_as_current=False)
    app.task(name="t.add", shared=False)(add)
    app.finalize()
    found = ChildLab(app, fast=True)
    yield found
    found.close()
    celery_trace.BaseTask.__call__ = celery_trace._patched.pop("BaseTask.__call__")
    del celery_trace.BaseTask._stackprotected


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("default")
def test_a_golden_case(lab: ChildLab, case: str, late: bool, caplog: pytest.LogCaptureFixture) -> None:
    told = CASES[case]
    if case in THE_ENGINES:
        pytest.skip("the engine refuses it")
    lab.put(told["message"].encode(), late=late, name="t.add")
    answers = lab.run()
    if late:
        assert [answer.outcome for answer in answers if answer.kind == KIND_OUTCOME] in ([_core.ACK], [_core.REJECT])
    if told["effect_on_celery_worker"].startswith("result "):
        state = told["effect_on_celery_worker"].split()[1].encode()
        assert b'"status": "%b"' % state in stored(answers)[0][3 if state == b"SUCCESS" else 4]
    else:
        assert bool(stored(answers)) == (case in UNREGISTERED)
    if told["log"] and told["worker_exit_code"] is None and "Frequent restarts" not in told["log"]:
        assert told["log"].split(":")[0] in caplog.text
    elif told["worker_exit_code"] is not None:
        assert caplog.records, "nothing was said about it"
    assert_lives(lab)


def assert_lives(lab: ChildLab) -> None:
    """The child runs the next message as if nothing had been."""
    lab.put(envelope("t.add", [1, 2]))
    assert b'"result": 3' in stored(lab.run())[0][3]


def test_content_that_is_not_accepted(lab: ChildLab, caplog: pytest.LogCaptureFixture) -> None:
    message = json.loads(envelope("t.add", [1, 2])) | {"content-type": "application/x-python-serialize"}
    lab.put(json.dumps(message).encode(), late=True, name="t.add")
    (answer,) = lab.run()
    assert answer.outcome == _core.REJECT
    assert "Refusing to deserialize untrusted content of type pickle" in caplog.text


def test_a_task_nobody_registered(lab: ChildLab) -> None:
    lab.put(envelope("t.nobody"), late=True)
    answers = lab.run()
    assert b"NotRegistered" in answers[0].data
    assert answers[-1].outcome == _core.REJECT


def test_an_expired_message(lab: ChildLab) -> None:
    lab.put(envelope("t.add", [1, 2], expires="2020-01-01T00:00:00+00:00"), late=True, name="t.add", expires=1.0)
    answers = lab.run()
    assert b'"status": "REVOKED"' in answers[0].data
    assert answers[-1].outcome == _core.ACK
