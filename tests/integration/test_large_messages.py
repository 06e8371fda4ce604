"""Messages and results that are too large for a ring take another way, and are run as all others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastq.producer import Producer
from tests.fix_lab import RESULT_S, Lab, stored, wait_state

SIZES = (70_000, 3_000_000)


@pytest.fixture(scope="module", autouse=True)
def _worker(module_lab: Lab) -> None:
    module_lab.worker(concurrency=2)


@pytest.mark.parametrize("size", SIZES)
def test_arguments_and_results_of_any_size(module_lab: Lab, size: int) -> None:
    text = 'a\\u00e4"' * (size // 7)
    assert module_lab.run("echo", text, 1) == [[text, 1], {}]
    assert len(module_lab.run("big_result", size)) == size


@pytest.mark.fastq_only
@pytest.mark.parametrize("wire", ["celery", "fastq"])
def test_either_wire(module_lab: Lab, wire: Any) -> None:
    value = {"data": ["x" * 1000] * 300, "number": 5}
    with Producer(module_lab.db.url, wire=wire) as producer:
        assert producer.send("t.echo", [value], {"more": None}).get(RESULT_S) == [[value], {"more": None}]


def test_the_request_is_the_same(module_lab: Lab) -> None:
    sent = module_lab.send("view", "x" * 200_000)
    small = json.loads(module_lab.run("view", "x"))
    found = json.loads(sent.get(timeout=RESULT_S))
    assert found.keys() == small.keys()
    assert found["id"] == sent.id
    assert found["args"] == ["x" * 200_000]


def test_a_large_message_is_tried_again_and_fails(module_lab: Lab) -> None:
    blob = "x" * 200_000
    sent = module_lab.send("add", blob, 1)
    assert wait_state(module_lab, sent.id, "FAILURE")["result"]["exc_type"] == "TypeError"
    assert stored(module_lab, sent.id)["traceback"]
