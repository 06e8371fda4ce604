"""Chords whose parts are counted by both engines: each has a queue of its own, so that it is known who does what."""

from __future__ import annotations

from typing import Any

import pytest
from celery import chord

from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab, wait_state

#: The queue of the engine under test, and that of a stock worker.
OURS, THEIRS = "ours", "theirs"

#: Who finishes the last part, and with that starts the body.
CLOSER = pytest.mark.parametrize("closer", [OURS, THEIRS])


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """Two workers, each on a queue of its own."""
    module_lab.worker("-Q", OURS, concurrency=2)
    module_lab.worker("-Q", THEIRS, engine="celery", concurrency=2)
    return module_lab


def other(queue: str) -> str:
    """The queue of the other engine."""
    return THEIRS if queue == OURS else OURS


def on(queue: str, signature: Any) -> Any:
    """The signature, sent to a queue."""
    return signature.set(queue=queue)


def wait_clean(lab: Lab, sent: Any) -> None:
    """Nothing stays of the counting of a chord but the mark that it is done. The body may run before that."""
    name = f"celery-taskset-meta-{sent.parent.id}"
    eventually(lambda: lab.db.keys(f"{name}.*") == [f"{name}.c"], saying=f"{lab.db.keys(f'{name}.*')}")


@CLOSER
def test_parts_of_both_make_one_list_in_order(lab: Lab, closer: str) -> None:
    gate = f"order-{closer}"
    ret = lab.task("ret")
    header = [on(queue, ret.s(number)) for number, queue in enumerate((OURS, THEIRS) * 4)]
    header.insert(3, on(closer, lab.task("hold").s(gate)))
    sent = chord(header, on(other(closer), ret.s()))()
    eventually(lambda: all(result.ready() for result in sent.parent.results if result is not sent.parent.results[3]))
    assert not sent.ready()
    lab.ledger.open_gate(gate)
    assert sent.get(timeout=RESULT_S) == [0, 1, 2, gate, 3, 4, 5, 6, 7]
    wait_clean(lab, sent)


@CLOSER
def test_a_part_that_fails_elsewhere_fails_the_body(lab: Lab, closer: str) -> None:
    gate = f"failure-{closer}"
    header = [on(other(closer), lab.task("fail").s("mixed")), on(closer, lab.task("hold").s(gate))]
    body = on(OURS, lab.task("ret").s()).on_error(on(THEIRS, lab.task("errback_old").s()))
    sent = chord(header, body)()
    wait_state(lab, sent.parent.results[0].id, "FAILURE")
    lab.ledger.open_gate(gate)
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"]["exc_type"] == "ChordError"
    assert "raised CustomError('mixed', 7)" in record["result"]["exc_message"][0]
    eventually(lambda: lab.ledger.count("errback-old", sent.id) == 1)


@CLOSER
def test_a_part_replaced_by_one_engine_and_run_by_the_other(lab: Lab, closer: str) -> None:
    header = [on(other(closer), lab.task("replace_on").s(4, closer)), on(OURS, lab.task("ret").s(1))]
    sent = chord(header, on(closer, lab.task("ret").s()))()
    assert sent.get(timeout=RESULT_S) == [5, 1]
    wait_clean(lab, sent)


@CLOSER
def test_a_chord_that_grows_at_one_engine_and_is_finished_by_the_other(lab: Lab, closer: str) -> None:
    header = [on(other(closer), lab.task("grow").s(4, closer)), on(OURS, lab.task("ret").s(1))]
    sent = chord(header, on(closer, lab.task("ret").s()))()
    assert sorted(sent.get(timeout=RESULT_S)) == [1, 4, 5]
    wait_clean(lab, sent)


@CLOSER
def test_a_part_that_is_lost_with_its_child(lab: Lab, closer: str) -> None:
    header = [on(closer, lab.task("die").s("kill")), on(other(closer), lab.task("ret").s(1))]
    sent = chord(header, on(other(closer), lab.task("ret").s()))()
    record = wait_state(lab, sent.id, "FAILURE")
    assert "WorkerLostError" in record["result"]["exc_message"][0]


def test_a_chord_within_a_chord_across_both(lab: Lab) -> None:
    add, xsum = lab.task("add"), lab.task("xsum")
    inner = chord([on(OURS, add.s(1, 1)), on(THEIRS, add.s(2, 2))], on(THEIRS, xsum.s()))
    sent = chord([inner, on(OURS, add.s(3, 3))], on(OURS, xsum.s()))()
    assert sent.get(timeout=RESULT_S) == 12


def test_unordered_parts_of_both(other_lab: Lab) -> None:
    lab = other_lab
    lab.use(result_backend_transport_options={"result_chord_ordered": False})
    lab.worker("-Q", OURS, concurrency=2)
    lab.worker("-Q", THEIRS, engine="celery")
    ret = lab.task("ret")
    sent = chord([on((OURS, THEIRS)[n % 2], ret.s(n)) for n in range(10)], on(OURS, ret.s()))()
    assert sorted(sent.get(timeout=RESULT_S)) == list(range(10))
    wait_clean(lab, sent)
