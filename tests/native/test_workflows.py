"""Chains, groups and chords of native applications, alone and in one fleet with stock Celery workers and clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import celery
import pytest

from fastq import Handle, Signature, chain, chord, group
from fastq.errors import OptionError, TaskError, TaskFailed
from fastq.producer import Progress
from tests.apps import flow_loops, flows, stock_flows
from tests.apps.flows import add, fail, lineage, total
from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab, close_app

pytestmark = pytest.mark.fastq_only


@pytest.fixture(scope="module")
def flow(module_lab: Lab) -> Iterator[Lab]:
    """A worker on `tests.apps.flows`, and one of Celery's for the queue `stock`."""
    module_lab.module = "tests.apps.flows"
    for app in (flows.app, flow_loops.app):
        app.conf.broker_url = app.conf.result_backend = module_lab.db.url
    module_lab.worker("-Q", "celery,native", concurrency=2)
    module_lab.worker("-Q", "loops", app="tests.apps.flow_loops")
    module_lab.worker("-Q", "stock", engine="celery", app="tests.apps.stock_flows")
    yield module_lab
    flows.app.close()
    flow_loops.app.close()


@pytest.fixture(scope="module")
def client(flow: Lab) -> Iterator[Any]:
    """A stock Celery application with the same tasks."""
    stock_flows.app.conf.update(broker_url=flow.db.url, result_backend=flow.db.url)
    yield stock_flows.app
    close_app(stock_flows.app)


def wait_record(flow: Lab, task_id: str, state: str) -> dict[str, Any]:
    """What is stored of a task, once it has this state."""

    def record() -> dict[str, Any]:
        found: Any = flow.db.client.get(f"celery-task-meta-{task_id}")
        return dict(json.loads(found)) if found else {}

    eventually(lambda: record().get("status") == state, saying=f"{task_id} is {state}: {record()}")
    return record()


def loop(*args: int) -> Signature[int]:
    """A coroutine task of another application, on its queue."""
    return flow_loops.plus.s(*args).set(queue="loops")


@pytest.mark.parametrize(
    ("workflow", "value"),
    [
        (lambda: chain(add.s(1, 2), add.s(3), add.s(4)), 10),
        (lambda: add.s(1, 2) | add.si(5, 5) | add.s(1), 11),
        (lambda: group(add.s(n, n) for n in range(3)), [0, 2, 4]),
        (lambda: chord([add.s(n, n) for n in range(3)], total.s(100)), 106),
        (lambda: group(add.s(1, 1), add.s(2, 2)) | total.s() | add.s(1), 7),
        (lambda: add.s(1, 1) | group(add.s(1), add.s(2)), [3, 4]),
        (lambda: add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | add.s(10), 17),
        (lambda: chord([add.s(1, 1), add.s(2, 2) | add.s(3)], total.s()), 9),
        (lambda: chord([add.s(1, 1), group(add.s(2, 2), add.s(3, 3))], total.s()), 12),
        (lambda: chord([add.s(1, 1), add.s(0, 1) | group(add.s(1), add.s(2))], flows.note_all.s("shape")), [2, [2, 3]]),
        (lambda: chord([chord([add.s(1, 1), add.s(1, 2)], total.s()), add.s(1, 0)], total.s()), 6),
        (lambda: chord([add.s(1, 1)], group(total.s(1), total.s(2))), [3, 4]),
        (lambda: group(add.s(1, 1), add.s(2, 2)) | group(total.s(), total.s(1)) | total.s(), 13),
        (lambda: chord([], total.s(5)), 5),
        (
            lambda: chord([add.s(1, 1), loop(1, 1) | loop(1)], total.s().set(queue="celery")) | loop(5),
            10,
        ),
        (lambda: add.starmap([(1, 1), (2, 2)]), [2, 4]),
        (lambda: flows.note.map(["m1", "m2"]), ["m1", "m2"]),
        (lambda: add.chunks([(1, 1), (2, 2), (3, 3)], 2), [[2, 4], [6]]),
        (lambda: group([]), []),
        (lambda: group([]) | total.s(5), 5),
        (lambda: add.s(1, 1) | group([]), 2),
        (lambda: add.s(1, 1) | group([]) | total.s(5) | add.s(1), 6),
        (lambda: group([]) | group(total.s(1), total.s(2)), [1, 2]),
        (lambda: flow_loops.plus.starmap([(1, 1), (2, 2)]).set(queue="loops"), [2, 4]),
        (lambda: flows.app.signature("f.add", (1, 1)) | flows.app.signature(add.s().fields, (3,)), 5),
    ],
    ids=range(25),
)
@pytest.mark.usefixtures("flow")
def test_a_workflow_has_the_result_that_celery_gives_it(workflow: Any, value: Any) -> None:
    assert workflow().delay().get(RESULT_S) == value


@pytest.mark.usefixtures("flow")
def test_arguments_of_a_workflow_go_to_its_first_tasks() -> None:
    assert group(add.s(1), add.s(2)).delay(5).get(RESULT_S) == [6, 7]
    assert chain(add.s(1), add.s(2)).delay(5).get(RESULT_S) == 8
    assert (group(add.s(1), add.s(2)) | total.s()).delay(5).get(RESULT_S) == 13


@pytest.mark.usefixtures("flow")
def test_handles_know_what_came_before() -> None:
    handle = (add.s(1, 1) | group(add.s(1), add.s(2)) | total.s()).delay()
    assert handle.get(RESULT_S) == 7
    header = handle.parent
    assert header.get(RESULT_S) == [3, 4]
    assert header.parent.get(RESULT_S) == 2
    assert (header.ready(), header.successful(), header.failed(), header.completed_count()) == (True, True, False, 2)


@pytest.mark.usefixtures("flow")
def test_a_chain_may_be_longer_than_python_calls_deep() -> None:
    handle: Any = chain(add.s(0), *[add.s(1)] * 1100).apply_async(queue="nobody")
    before = 0
    while (handle := handle.parent) is not None:
        before += 1
    assert before == 1100


def test_a_signature_shows_its_parts_and_can_be_called() -> None:
    one = add.s(1, y=2)
    assert (one.task, one.args, one.kwargs, add.s(1)(4)) == ("f.add", (1,), {"y": 2}, 5)


@pytest.mark.parametrize(
    "use",
    [
        lambda: add.s(1).set(contdown=1),  # type: ignore[call-arg]
        lambda: (add.s(1) | add.s(1)).apply_async(contdown=1),  # type: ignore[call-arg]
    ],
    ids=["set", "apply_async"],
)
def test_an_option_that_does_not_exist_is_an_error(use: Any) -> None:
    with pytest.raises(OptionError, match="there is no option 'contdown' of a signature; the options are"):
        use()


@pytest.mark.usefixtures("flow")
def test_what_follows_a_cancelled_task_is_revoked_and_its_chord_ends() -> None:
    rest: Any = chain(add.s(1, 1), add.s(1), add.s(1)).apply_async(countdown=0.3)
    whole: Any = chord([chain(add.s(1, 1), add.s(1)), add.s(1, 1)], total.s()).apply_async(countdown=0.3)
    rest.parent.parent.cancel()
    whole.parent.children[0].parent.cancel()
    assert rest.wait(RESULT_S).status == "REVOKED"
    with pytest.raises(TaskFailed, match="TaskRevokedError"):
        whole.get(RESULT_S)


def test_results_say_where_tasks_come_from(flow: Lab) -> None:
    handle = (add.s(1, 1) | lineage.s()).delay()
    assert handle.get(RESULT_S) == [handle.parent.id, handle.parent.id]
    first = wait_record(flow, handle.parent.id, "SUCCESS")
    assert [child[0][0] for child in first["children"]] == [handle.id]

    sent = flows.parent.delay()
    one, many = sent.get(RESULT_S)
    children = wait_record(flow, sent.id, "SUCCESS")["children"]
    assert [child[0][0] for child in children] == [one, many]
    assert wait_record(flow, one, "SUCCESS")["parent_id"] == sent.id


def test_a_failure_ends_the_rest_of_the_chain(flow: Lab) -> None:
    handle: Handle[Any] = chain(add.s(1, 1), fail.s(), add.s(1)).apply_async(
        link_error=[flows.hears.s(), flows.told.s()]
    )
    with pytest.raises(TaskFailed, match="boom"):
        handle.get(RESULT_S)
    eventually(lambda: flow.ledger.tokens("heard") == [f"{handle.parent.id}:LookupError"])
    eventually(lambda: flow.ledger.tokens("told") == [handle.parent.id])


def test_a_failure_fails_the_body_and_what_follows_it(flow: Lab) -> None:
    handle = (chord([add.s(1, 1), fail.s()], total.s()) | add.s(1)).delay()
    with pytest.raises(TaskFailed, match=r"ChordError.*Dependency .* raised LookupError\('boom'\)"):
        handle.get(RESULT_S)
    assert wait_record(flow, handle.parent.id, "FAILURE")["result"]["exc_type"] == "ChordError"


@pytest.mark.usefixtures("flow")
def test_an_inner_chord_that_fails_fails_the_outer_one() -> None:
    handle = chord([add.s(1, 1), chord([fail.s()], total.s())], total.s()).delay()
    with pytest.raises(TaskFailed, match="ChordError"):
        handle.get(RESULT_S)


def test_links_are_sent(flow: Lab) -> None:
    add.apply_async((1, 2), link=[flows.note.si("one"), flows.note.si("two")])
    eventually(lambda: sorted(flow.ledger.tokens("note"))[-2:] == ["one", "two"])


@pytest.mark.parametrize("queue", ["stock", "native"])
@pytest.mark.usefixtures("flow")
def test_a_mixed_fleet_counts_one_chord(queue: str) -> None:
    other = "native" if queue == "stock" else "stock"
    header = [add.s(n, 1).set(queue=(queue, other)[n % 2]) for n in range(6)]
    for body_queue in (queue, other):
        assert chord(header, total.s().set(queue=body_queue)).delay().get(RESULT_S) == 21
    mixed = add.s(1, 1).set(queue=queue) | group(add.s(1).set(queue=other), add.s(2)) | total.s().set(queue=other)
    assert mixed.delay().get(RESULT_S) == 7


@pytest.mark.parametrize("queue", ["stock", "native"])
def test_a_celery_client_uses_both(client: celery.Celery, queue: str) -> None:
    plus, whole = client.tasks["f.add"], client.tasks["f.total"]
    header = celery.group(plus.s(n, 1).set(queue=("stock", "native")[n % 2]) for n in range(4))
    assert celery.chord(header)(whole.s().set(queue=queue)).get(timeout=RESULT_S) == 10
    steps = celery.chain(plus.s(1, 1).set(queue=queue), celery.group(plus.s(1), plus.s(2)), whole.s(), plus.s(5))
    assert steps.apply_async().get(timeout=RESULT_S) == 12
    nested = celery.chord([plus.s(1, 1), celery.chain(plus.s(0, 1), celery.group(plus.s(1), plus.s(2)))], whole.s())
    assert nested.apply_async(queue=queue).get(timeout=RESULT_S) == 7
    failing = celery.chord([plus.s(1, 1), client.tasks["f.fail"].s().set(queue=queue)])(whole.s())
    with pytest.raises(LookupError, match="boom"):  # Celery looks at the header first
        failing.get(timeout=RESULT_S)
    assert plus.chunks([(1, 1), (2, 2), (3, 3)], 2).apply_async().get(timeout=RESULT_S) == [[2, 4], [6]]


#: Where the process of a task is killed, and how often what follows may run: a chain's next can be sent twice.
KILLS = ["before proceed", "after proceed", "before count", "before _complete", "before _send_body", "after _send_body"]


def test_kills_between_the_steps_lose_nothing(flow: Lab) -> None:
    """Of chains and of chords, at every step, all at the same time; the claim of a dead process holds for seconds."""
    for step in KILLS:
        body = flows.note_all.s(f"body-{KILLS.index(step)}")
        chord([flows.dies.s(f"part-{KILLS.index(step)}", step)], body).delay()
    for step in KILLS[:2]:
        (flows.dies.s(f"task-{step[:5]}".strip(), step) | flows.note.s()).delay()
    chord([flows.dies_early.s("early", "before _send_body")], flows.note_all.s("body-early")).delay()

    def bodies() -> list[str]:
        return sorted(token for token in flow.ledger.tokens("body") if token.startswith("body-"))

    wanted = [*(f"body-{number}" for number in range(len(KILLS))), "body-early"]
    eventually(lambda: bodies() == wanted, within_s=40)
    eventually(lambda: flow.ledger.count("note", "task-befor") == 1 and flow.ledger.count("note", "task-after") == 2)
    assert flow.ledger.counts("run")["task-befor"] == flow.ledger.counts("run")["task-after"] == 2
    assert flow.ledger.count("run", "early") == 1
    assert add.delay(1, 1).get(RESULT_S) == 2
    assert bodies() == wanted


@pytest.mark.parametrize("task", [flows.works, flow_loops.works], ids=["function", "coroutine"])
def test_progress_is_seen(flow: Lab, client: celery.Celery, task: Any) -> None:
    handle, token = task.delay(f"progress-{task.name}"), f"progress-{task.name}"
    found = eventually(lambda: handle.progress().status == "PROGRESS" and handle.progress())
    assert found in (Progress(current=0.0, message="turn 0", status="PROGRESS"),
                     Progress(current=0.5, message="half", status="PROGRESS"))  # fmt: skip
    seen = client.AsyncResult(handle.id)
    assert (seen.state, set(seen.info)) == ("PROGRESS", {"current", "message"})
    flow.ledger.open_gate(token)
    assert handle.get(RESULT_S) == 1
    assert handle.progress() == Progress(current=1.0, status="SUCCESS")
    with pytest.raises(TaskError, match="no task runs here"):
        task.progress(0.5)


def test_what_cannot_be_sent_is_said_here() -> None:
    with pytest.raises(OptionError, match="a workflow is made of signatures"):
        chain(add, 1)  # type: ignore[call-overload]
    with pytest.raises(OptionError, match="a chain without tasks"):
        chain(group(add.s(1)), chain()).clone()._changed(kwargs={"tasks": []}).delay()
    with pytest.raises(OptionError, match="no task of an application"):
        chain().delay()
    with pytest.raises(OptionError, match="make it a chord"):
        group(add.s(1)).apply_async(link=add.s(1))
