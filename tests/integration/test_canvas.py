"""Links, chains, groups and chords: what a worker sends after a task, and what clients get."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import chain, chord, group, signature
from celery.canvas import StampingVisitor
from celery.result import GroupResult

from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab, stored, wait_state


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """One worker with two children for the module."""
    module_lab.worker(concurrency=2)
    return module_lab


def test_link_gets_the_result(lab: Lab) -> None:
    sent = lab.send("add", 1, 1, link=lab.task("add").s(10))
    assert sent.get(timeout=RESULT_S) == 2
    assert eventually(lambda: sent.children)[0].get(timeout=RESULT_S) == 12


def test_several_links_groups_among_them(lab: Lab) -> None:
    add = lab.task("add")
    sent = lab.send("add", 2, 3, link=[add.s(1), group(add.s(1), add.s(2)), add.si(3, 4)])
    assert sent.get(timeout=RESULT_S) == 5
    eventually(lambda: len(sent.children) >= 2)
    values = sorted(value for value in _leaves(sent.children))
    assert values == [6, 6, 7, 7]


def _leaves(results: list[object]) -> list[int]:
    found: list[int] = []
    for result in results:
        value = result.get(timeout=RESULT_S)  # type: ignore[attr-defined]
        found += value if isinstance(value, list) else [value]
    return found


def test_an_immutable_link_ignores_the_result(lab: Lab) -> None:
    sent = lab.send("add", 1, 1, link=lab.task("add").si(20, 22))
    sent.get(timeout=RESULT_S)
    assert eventually(lambda: sent.children)[0].get(timeout=RESULT_S) == 42


def test_a_link_is_on_the_queue_before_the_result_is_stored(lab: Lab) -> None:
    """A client that sees SUCCESS sees the children too."""
    for number in range(20):
        sent = lab.send("add", number, 0, link=lab.task("add").s(1))
        sent.get(timeout=RESULT_S)
        assert len(sent.children) == 1


def test_errback_of_the_old_style_is_sent_as_a_task(lab: Lab) -> None:
    sent = lab.send("fail", link_error=lab.task("errback_old").s())
    wait_state(lab, sent.id, "FAILURE")
    eventually(lambda: lab.ledger.count("errback-old", sent.id) == 1)


def test_errback_of_the_new_style_is_called_in_the_process(lab: Lab) -> None:
    sent = lab.send("fail", link_error=lab.task("errback_new").s())
    wait_state(lab, sent.id, "FAILURE")
    eventually(lambda: lab.ledger.count("errback-new", sent.id) == 1)
    assert lab.ledger.count("errback-saw-CustomError-tb", sent.id) == 1


def test_an_errback_nobody_here_knows_is_sent_to_its_queue(lab: Lab) -> None:
    sent = lab.send("fail", link_error=signature("un.known", app=lab.app, options={"queue": "nowhere"}))
    wait_state(lab, sent.id, "FAILURE")
    eventually(lambda: lab.db.length("nowhere") >= 1)
    assert sent.id.encode() in lab.db.entries("nowhere")[-1]
    lab.db.client.delete("nowhere")


def test_chain(lab: Lab) -> None:
    add = lab.task("add")
    last = chain(add.s(1, 1), add.s(2), add.s(3)).apply_async()
    assert last.get(timeout=RESULT_S) == 7
    assert (last.parent.get(), last.parent.parent.get()) == (4, 2)


def test_a_chain_that_fails_fails_what_is_left_of_it(lab: Lab) -> None:
    add, fail = lab.task("add"), lab.task("fail")
    last = chain(fail.si("early"), add.s(2), add.s(3)).apply_async()
    first, middle = last.parent.parent, last.parent
    record = wait_state(lab, first.id, "FAILURE")
    for later in (middle, last):
        assert wait_state(lab, later.id, "FAILURE")["result"] == record["result"]


def test_link_error_of_a_chain_is_called_for_the_task_that_failed(lab: Lab) -> None:
    add, fail = lab.task("add"), lab.task("fail")
    last = chain(add.s(1, 1), fail.si(), add.s(3)).apply_async(link_error=lab.task("errback_old").s())
    eventually(lambda: lab.ledger.count("errback-old", last.parent.id) == 1)


def test_group(lab: Lab) -> None:
    add = lab.task("add")
    assert group(add.s(n, n) for n in range(10))().get(timeout=RESULT_S) == [2 * n for n in range(10)]


def test_chord(lab: Lab) -> None:
    add, xsum = lab.task("add"), lab.task("xsum")
    sent = chord((add.s(n, n) for n in range(5)), xsum.s())()
    assert sent.get(timeout=RESULT_S) == 20
    # The body may run before its dispatcher has put the counting away.
    eventually(lambda: not lab.db.keys(f"*{sent.parent.id}*.[jtsd]"))


def test_results_of_a_chord_come_in_the_order_of_its_header(lab: Lab) -> None:
    ret = lab.task("ret")
    sent = chord([ret.s(n) for n in range(12)], ret.s())()
    assert sent.get(timeout=RESULT_S) == list(range(12))


def test_a_failing_header_fails_the_body(lab: Lab) -> None:
    sent = chord([lab.task("fail").s(), lab.task("add").s(2, 2)], lab.task("xsum").s())()
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"]["exc_type"] == "ChordError"
    assert "raised CustomError('boom', 7)" in record["result"]["exc_message"][0]


def test_chord_with_a_chain_as_body(lab: Lab) -> None:
    add, xsum = lab.task("add"), lab.task("xsum")
    assert (group(add.s(1, 1), add.s(2, 2)) | xsum.s() | add.s(1))().get(timeout=RESULT_S) == 7


def test_chord_in_a_chain(lab: Lab) -> None:
    add, xsum = lab.task("add"), lab.task("xsum")
    assert chain(add.s(1, 1), group(add.s(1), add.s(2)), xsum.s())().get(timeout=RESULT_S) == 7


def test_chord_of_chains(lab: Lab) -> None:
    add, xsum = lab.task("add"), lab.task("xsum")
    assert chord([chain(add.s(1, 1), add.s(2)), add.s(3, 3)], xsum.s())().get(timeout=RESULT_S) == 10


def test_chord_with_ignored_header_results(lab: Lab) -> None:
    header = [lab.task("add").s(n, 0).set(ignore_result=True) for n in range(3)]
    assert chord(header, lab.task("xsum").s())().get(timeout=RESULT_S) == 3


def test_map_starmap_and_chunks(lab: Lab) -> None:
    add, ret = lab.task("add"), lab.task("ret")
    assert ret.map([1, 2, 3]).apply_async().get(timeout=RESULT_S) == [1, 2, 3]
    assert add.starmap([(1, 2), (3, 4)]).apply_async().get(timeout=RESULT_S) == [3, 7]
    chunks = add.chunks(zip(range(4), range(4), strict=True), 2).apply_async()
    assert chunks.get(timeout=RESULT_S) == [[0, 2], [4, 6]]


def test_parent_and_root_are_handed_down(lab: Lab) -> None:
    last = chain(lab.task("add").s(1, 1), lab.task("view").s()).apply_async()
    seen = json.loads(last.get(timeout=RESULT_S))
    assert (seen["parent_id"], seen["root_id"]) == (last.parent.id, last.parent.id)
    assert stored(lab, last.id)["parent_id"] == last.parent.id


@pytest.mark.parametrize("parts", [500, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_a_chord_with_a_long_header(lab: Lab, parts: int) -> None:
    ret, size = lab.task("ret"), lab.task("size")
    sent = chord((ret.s(number) for number in range(parts)), size.s())()
    assert sent.get(timeout=200) == parts
    assert [result.get() for result in sent.parent.results[:: parts // 4]] == [n * parts // 4 for n in range(4)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"countdown": 0.3, "expires": 0.05}, "TaskRevokedError('expired')"),
        ({"time_limit": 1}, "TimeLimitExceeded"),
        ({"ignore_result": True, "soft_time_limit": 1}, "SoftTimeLimitExceeded"),
    ],
)
def test_a_part_that_does_not_get_to_its_end_fails_the_body(lab: Lab, options: dict[str, Any], said: str) -> None:
    slow = lab.task("nap").s("part", 20).set(**options)
    sent = chord([lab.task("ret").s(1), slow], lab.task("ret").s())()
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"]["exc_type"] == "ChordError"
    assert said in record["result"]["exc_message"][0]


def test_an_empty_group_within_a_chain(lab: Lab) -> None:
    ret = lab.task("ret")
    assert (ret.s([]) | group([]) | ret.si("after"))().get(timeout=RESULT_S) == "after"


def test_a_header_whose_results_take_the_ring_and_whose_errors_do_not(lab: Lab) -> None:
    """Parts of one chord, some long, some failing late, while plain tasks run between them."""
    ret, big = lab.task("ret"), lab.task("big_result")
    between = [lab.send("add", number, 0) for number in range(20)]
    sent = chord([ret.s("a"), big.s(300_000), ret.s("b")], lab.task("ret").s())()
    assert [len(part) for part in sent.get(timeout=RESULT_S)] == [1, 300_000, 1]
    assert [result.get(timeout=RESULT_S) for result in between] == list(range(20))


# GroupResult.save() calls what redis-py has given another name.
@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
def test_a_group_result_is_saved_restored_and_forgotten(lab: Lab) -> None:
    sent = group(lab.task("ret").s(number) for number in range(3))()
    sent.save()
    restored = GroupResult.restore(sent.id, app=lab.app)
    assert restored.join(timeout=RESULT_S) == [0, 1, 2]
    restored.forget()
    restored.delete()
    assert not [key for key in lab.db.keys("celery-task*") if any(result.id in key for result in sent.results)]


def test_a_client_collects_a_tree_of_results(lab: Lab) -> None:
    sent = lab.send("spawn", 2, 3)
    assert sent.get(timeout=RESULT_S) == "spawned"
    eventually(lambda: all(result.ready() for _, result in sent.iterdeps(intermediate=True)))
    assert [value for _, value in sent.collect()] == ["spawned", 5, [2, 4], 2, 4]


def test_stamps_reach_the_task_and_its_result(lab: Lab) -> None:
    class Stamp(StampingVisitor):  # type: ignore[misc]
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"ticket": "T1", "stamped_headers": ["ticket"]}

    task = lab.task("view").s() | lab.task("view").s()
    task.stamp(visitor=Stamp())
    last = task.apply_async()
    for seen in (json.loads(last.get(timeout=RESULT_S)), json.loads(last.parent.get(timeout=RESULT_S))):
        assert seen["stamped_headers"] == ["ticket"]
        assert seen["stamps"] == {"ticket": "T1"}
