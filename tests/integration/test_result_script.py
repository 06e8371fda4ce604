"""The script that stores a state, on a real server: SUCCESS stays, and a late RETRY does not hide the end."""

from __future__ import annotations

from typing import Any

import pytest

from fastq.results.redis import SCRIPT
from tests.fix_redis import Database

KEY = "celery-task-meta-1"
SUCCESS = b'{"status": "SUCCESS", "result": 1, "date_done": "2026-01-01T10:00:00+00:00", "task_id": "1"}'
FAILURE = b'{"status": "FAILURE", "result": "\\"date_done\\": \\"1\\"", "date_done": "2026-01-01T10:00:05.5+00:00"}'
RETRY = b'{"status": "RETRY", "result": 1, "date_done": null}'


def store(db: Database, value: bytes, *, expires_s: int = 60, began: str = "") -> Any:
    return db.client.eval(SCRIPT.decode(), 1, KEY, value, str(expires_s), began)


@pytest.mark.parametrize("expires_s", [60, 0])
def test_a_state_is_stored_and_published(db: Database, expires_s: int) -> None:
    listener = db.client.pubsub()
    listener.subscribe(KEY)
    listener.get_message(timeout=5)
    assert store(db, FAILURE, expires_s=expires_s) == 1
    assert db.client.get(KEY) == FAILURE
    assert db.client.ttl(KEY) == (expires_s or -1)
    message: Any = listener.get_message(timeout=5)
    assert message["data"] == FAILURE
    listener.close()


def test_success_stays(db: Database) -> None:
    db.client.set(KEY, SUCCESS)
    assert store(db, FAILURE) == 0
    assert db.client.get(KEY) == SUCCESS


def test_other_states_are_overwritten(db: Database) -> None:
    for value in (FAILURE, RETRY, FAILURE):
        assert store(db, value) == 1
        assert db.client.get(KEY) == value


@pytest.mark.parametrize(("began", "stored"), [("2026-01-01T10:00:05+00:00", 0), ("2026-01-01T10:00:06+00:00", 1)])
def test_a_retry_does_not_hide_what_came_after_it(db: Database, began: str, stored: int) -> None:
    db.client.set(KEY, FAILURE)
    assert store(db, RETRY, began=began) == stored


def test_a_retry_after_a_retry(db: Database) -> None:
    db.client.set(KEY, RETRY)
    assert store(db, RETRY, began="2026-01-01T10:00:00+00:00") == 1


def test_a_result_that_is_no_json(db: Database) -> None:
    db.client.set(KEY, b"\x80\x04pickle\x00")
    assert store(db, RETRY, began="2026") == 1
