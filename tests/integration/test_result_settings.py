"""What the result settings change in what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery import chord

from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab, stored, wait_state


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """One worker with every result setting away from its default."""
    module_lab.use(
        result_extended=True,
        result_expires=120,
        result_failure_expires=60,
        result_compression="gzip",
        timezone="Europe/Paris",
        result_backend_transport_options={"global_keyprefix": "rp"},
    )
    module_lab.worker()
    return module_lab


def raw(lab: Lab, task_id: str) -> bytes:
    """The stored bytes."""
    found: Any = eventually(lambda: lab.db.client.get(f"rp_celery-task-meta-{task_id}"), within_s=RESULT_S)
    return bytes(found)


def test_extended_results_hold_name_arguments_and_queue(lab: Lab) -> None:
    sent = lab.task("add").apply_async((2,), {"y": 3})
    assert sent.get(timeout=RESULT_S) == 5
    record = lab.app.backend.decode(raw(lab, sent.id))
    assert list(record) == [
        "status", "result", "traceback", "children", "date_done",
        "name", "args", "kwargs", "worker", "retries", "queue", "task_id",
    ]  # fmt: skip
    assert (record["name"], record["args"], record["kwargs"]) == ("t.add", [2], {"y": 3})
    assert (record["worker"], record["retries"], record["queue"]) == (lab.workers[0].node, 0, "celery")


def test_date_done_is_in_the_applications_timezone(lab: Lab) -> None:
    sent = lab.send("add", 2, 3)
    record = lab.app.backend.decode(raw(lab, sent.id))
    assert record["date_done"].endswith(("+01:00", "+02:00"))


def test_stamps_are_part_of_an_extended_result(lab: Lab) -> None:
    signature = lab.task("add").s(1, 1)
    signature.stamp(customer="c1", tags=["a", "b"])
    sent = signature.apply_async()
    assert sent.get(timeout=RESULT_S) == 2
    record = lab.app.backend.decode(raw(lab, sent.id))
    assert sorted(record["stamped_headers"]) == ["customer", "tags"]
    assert (record["customer"], record["tags"]) == ("c1", ["a", "b"])


def test_failures_expire_by_their_own_setting(lab: Lab) -> None:
    good, bad = lab.send("add", 1, 1), lab.send("fail")
    good.get(timeout=RESULT_S)
    raw(lab, bad.id)
    assert 110 < lab.db.client.ttl(f"rp_celery-task-meta-{good.id}") <= 120
    assert 50 < lab.db.client.ttl(f"rp_celery-task-meta-{bad.id}") <= 60


def test_results_are_compressed_in_celerys_frame(lab: Lab) -> None:
    sent = lab.send("add", 1, 1)
    assert raw(lab, sent.id).startswith(b"\0celery-compressed\0application/x-gzip\0")
    assert sent.get(timeout=RESULT_S) == 2


def test_results_without_expiry(lab: Lab, other_lab: Lab) -> None:
    other_lab.use(result_expires=None)
    other_lab.worker()
    sent = other_lab.send("add", 1, 1)
    sent.get(timeout=RESULT_S)
    assert other_lab.db.client.ttl(f"celery-task-meta-{sent.id}") == -1


def test_results_in_a_second_database(other_lab: Lab) -> None:
    second = other_lab.db.server.url(number=other_lab.db.number + 1000)
    other_lab.use(backend=second)
    other_lab.worker()
    sent = other_lab.send("add", 20, 22)
    assert sent.get(timeout=RESULT_S) == 42
    assert not other_lab.db.keys("celery-task-meta-*")


@pytest.mark.parametrize("kind", ["file", "sqlite", "disabled"])
def test_results_in_another_backend(other_lab: Lab, kind: str, tmp_path: Path) -> None:
    if kind == "sqlite":
        pytest.importorskip("sqlalchemy")
    folder = tmp_path / "results"
    folder.mkdir()
    urls = {"file": f"file://{folder}", "sqlite": f"db+sqlite:///{folder}/r.db", "disabled": "disabled://"}
    other_lab.use(backend=urls[kind], result_chord_retry_interval=0.1)
    other_lab.worker()
    good, bad = other_lab.send("mark", "stored"), other_lab.send("fail")
    if kind != "disabled":
        assert good.get(timeout=RESULT_S) == "stored"
        assert type(bad.get(timeout=RESULT_S, propagate=False)).__name__ == "CustomError"
        # Without Redis, a task of Celery's asks for the parts again and again.
        add, xsum = other_lab.task("add"), other_lab.task("xsum")
        assert chord([add.s(1, 1), add.s(2, 2)], xsum.s())().get(timeout=RESULT_S) == 6
    eventually(lambda: other_lab.ledger.count("ran", "stored") == 1)
    other_lab.workers[0].wait_log(rf"Task t\.fail\[{bad.id}\] raised")
    assert not other_lab.db.keys("celery-task-meta-*")


def test_rpc_results(other_lab: Lab) -> None:
    other_lab.use(backend="rpc://")
    other_lab.worker()
    assert other_lab.run("add", 1, 2) == 3


def test_results_with_another_serializer(other_lab: Lab) -> None:
    other_lab.use("tests.apps.open", result_serializer="pickle", result_accept_content=["json", "pickle"])
    other_lab.worker()
    assert other_lab.run("ret", {"k": [1, 2]}) == {"k": [1, 2]}
    with pytest.raises(Exception, match="boom"):
        other_lab.run("fail", "boom")


def test_started_is_stored_when_the_application_tracks_it(other_lab: Lab) -> None:
    other_lab.use(task_track_started=True)
    other_lab.worker()
    sent = other_lab.send("hold", "tracked")
    assert wait_state(other_lab, sent.id, "STARTED")["result"]["hostname"] == other_lab.workers[0].node
    other_lab.ledger.open_gate("tracked")
    assert sent.get(timeout=RESULT_S) == "tracked"
    assert stored(other_lab, sent.id)["status"] == "SUCCESS"
