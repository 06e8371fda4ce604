"""Replay what a stock producer sent, and compare everything that followed with the recording of a stock worker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.celery import samples
from tests.celery.samples import Sample, by_task, comparable, comparable_message
from tests.eventually import eventually
from tests.fix_lab import Lab
from tests.fix_monitor import Monitor

FLOWS = [name for name in samples.names("flow-") if not name.startswith("flow-revoked")]

#: What a worker keeps for itself is its own business; results and messages are compared one by one.
PRIVATE = ("_kombu", "unacked", "fastq:", "celery-task-meta", "nowhere")


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """One worker with one child, as in the recordings."""
    module_lab.use("tests.apps.golden")
    module_lab.worker()
    return module_lab


@pytest.fixture
def clean(lab: Lab) -> Lab:
    """The lab without what the sample before left."""
    eventually(lab.idle)
    for pattern in ("celery-task*", "celery", "nowhere"):
        for key in lab.db.keys(pattern):
            lab.db.client.delete(key)
    return lab


@pytest.mark.parametrize("name", FLOWS)
def test_flow(clean: Lab, name: str) -> None:
    sample = Sample(name)
    known = sample.known_ids()
    with Monitor(clean.db) as monitor:
        replay(clean, sample)
        eventually(lambda: len(stores(monitor)) >= len(sample.stores()), saying="all results are stored")
        eventually(lambda: len(pushes(monitor)) >= len(sample.pushes()), saying="all messages are sent")
        eventually(clean.idle)
    assert by_task(stores(monitor), known=known) == by_task(sample.stores(), known=known)
    assert follow_ups(monitor, sample) == in_order(sample.sent_by_worker(), known=known)
    assert left_behind(clean, known) == left_in(sample, known)


def replay(lab: Lab, sample: Sample) -> None:
    """Give Redis the producer's commands unchanged."""
    for command in sample.sent_by_client():
        lab.db.client.execute_command(*command)


def stores(monitor: Monitor) -> list[str]:
    """The results that were stored."""
    return [row[3] for row in monitor.told("SETEX") if row[1].startswith("celery-task-meta-")]


def pushes(monitor: Monitor) -> list[str]:
    """The messages that were sent, the replayed ones first."""
    return [text for row in monitor.told("LPUSH") if row[1] in ("celery", "nowhere") for text in row[2:]]


def follow_ups(monitor: Monitor, sample: Sample) -> list[Any]:
    """What the worker sent: everything but the first pushes, which were ours."""
    ours = {row[2] for row in sample.sent_by_client() if row[0] == "LPUSH"}
    return in_order([text for text in pushes(monitor) if text not in ours], known=sample.known_ids())


def in_order(envelopes: list[str], *, known: set[str]) -> list[Any]:
    """Comparable messages, sorted."""
    return sorted((comparable_message(text, known=known) for text in envelopes), key=json.dumps)


def left_behind(lab: Lab, known: set[str]) -> list[str]:
    """The keys a flow leaves that other workers see."""
    return sorted(comparable(key, known=known) for key in lab.db.keys() if not key.startswith(PRIVATE))


def left_in(sample: Sample, known: set[str]) -> list[str]:
    """The same of the recording."""
    return sorted(comparable(key, known=known) for key in sample.content["keys"] if not key.startswith(PRIVATE))


def test_keys_of_stored_records_are_in_celerys_order(clean: Lab) -> None:
    sample = Sample("flow-failure")
    replay(clean, sample)
    key = f"celery-task-meta-{json.loads(sample.stores()[0])['task_id']}"
    stored: Any = eventually(lambda: clean.db.client.get(key))
    assert list(json.loads(stored)) == list(json.loads(sample.stores()[0]))
    assert clean.db.client.ttl(key) > 86_000
