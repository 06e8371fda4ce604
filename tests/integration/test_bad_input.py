"""Messages no producer should send: each has an outcome, a line in the log, and the worker goes on."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from fastq.wire.deadletter import decode_letter
from tests.celery import samples
from tests.eventually import eventually
from tests.fix_lab import Lab, stored, wait_state
from tests.push import NO_EMBED, call, envelope, push

#: What kills or blinds a stock worker, or makes it lose the entry. Not here.
DEADLY_TO_CELERY = {
    "two-items", "id-missing", "timelimit-bad", "body-not-b64", "content-type-data", "task-list", "envelope-array",
    "envelope-no-properties", "envelope-no-body", "auth-not-set-up",
}  # fmt: skip
#: Here a stock worker says nothing that names the message.
SILENT_ON_CELERY = {"kwargs-list", "id-number"}
#: Nothing that could be logged as its id.
NAMELESS = {"envelope-array", "id-missing", "headers-null"}
#: Where entries that are no message are kept for a person to look at.
DEAD = "fastq:dead:{celery}"
#: Celery runs it and then cannot store the result; whether it is stored is up to the engine.
FREE_RESULT = {"id-number"}

CASES: dict[str, dict[str, Any]] = {
    case["case"]: case for case in json.loads((samples.FOLDER / "malformed-messages.json").read_text())["cases"]
}


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """The module's worker; it has to survive every test."""
    return module_lab


@pytest.fixture(autouse=True)
def served(lab: Lab) -> None:
    """A worker is there: a new one only if a test before ended the last, so that one failure stays one."""
    if not lab.workers or not lab.workers[-1].alive:
        for key in ("celery", "unacked", "unacked_index"):
            lab.db.client.delete(key)
        lab.worker()


def goes_on(lab: Lab) -> None:
    """A good task sent afterwards runs in the same worker, and nothing is left on the books."""
    try:
        assert lab.run("add", 20, 22) == 42
        eventually(lab.idle, saying=f"nothing is held: {lab.held()}")
        assert lab.workers[-1].alive
    except Exception:
        lab.workers[-1].kill()  # the next test gets a new one
        raise


def complaints(lab: Lab, about: str) -> list[str]:
    """Log lines above INFO that name the message."""
    return [line for line in lab.workers[-1].log_lines(re.escape(about)) if re.search("WARNING|ERROR|CRITICAL", line)]


def expect_complaint(lab: Lab, about: str) -> None:
    """The log says what was wrong with which message; a stock worker does not always say with which."""
    if lab.engine == "celery":
        eventually(lambda: complaints(lab, ""))
    else:
        eventually(lambda: complaints(lab, about), saying=f"a complaint that names {about}")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.fastq_only("kills a stock worker")] if name in DEADLY_TO_CELERY else [])
        for name in CASES
    ],
)
def test_recorded_case(lab: Lab, name: str) -> None:
    case = CASES[name]
    push(lab.db, case["message"])
    goes_on(lab)
    message = json.loads(case["message"])
    task_id = "" if name in NAMELESS else str(message["headers"]["id"])
    expected = json.loads(case["result"]) if case["result"] else {}
    if task_id and name not in DEADLY_TO_CELERY | FREE_RESULT:
        compare_outcome(lab, task_id, expected)
    if expected.get("status") != "SUCCESS" and not (lab.engine == "celery" and name in SILENT_ON_CELERY):
        expect_complaint(lab, task_id or tag_of(message))


def tag_of(message: Any) -> str:
    """What names a message that has no id."""
    return str(message["properties"]["delivery_tag"]) if isinstance(message, dict) else "celery"


def compare_outcome(lab: Lab, task_id: str, expected: dict[str, Any]) -> None:
    """State, and for failures class and module, are those of a stock worker."""
    found = stored(lab, task_id)
    assert found.get("status") == expected.get("status"), found
    if found.get("status") == "FAILURE":
        assert found["result"]["exc_type"] == expected["result"]["exc_type"]
        assert found["result"]["exc_module"] == expected["result"]["exc_module"]
    elif found:
        assert found["result"] == expected["result"]


def test_an_unknown_task_fails_and_is_named(lab: Lab) -> None:
    sent = lab.app.send_task("no.such", (1,))
    record = wait_state(lab, sent.id, "FAILURE")
    assert (record["result"]["exc_type"], record["result"]["exc_message"]) == ("NotRegistered", ["no.such"])
    lab.workers[-1].wait_log(r"Received unregistered task of type 'no\.such'")
    goes_on(lab)


def test_a_content_type_that_is_not_accepted_is_dropped(lab: Lab) -> None:
    sent = lab.task("add").apply_async((1, 2), serializer="pickle")
    goes_on(lab)
    assert stored(lab, sent.id) == {}
    expect_complaint(lab, sent.id)
    lab.workers[-1].wait_log("(?i)untrusted content|not accepted|refus")


BODIES = {
    "truncated json": b'[[1, 2], {}, {"callbac',
    "not utf-8": b"\xff\xfe\x00",
    "unknown __type__": b'[[{"__type__": "nope", "__value__": 1}], {}, {}]',
    "empty": b"",
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=[pytest.mark.fastq_only("ends a stock worker")] if k == "empty" else []) for k in BODIES],
)
def test_a_body_that_cannot_be_decoded(lab: Lab, kind: str) -> None:
    task_id = push(lab.db, envelope(BODIES[kind]))
    goes_on(lab)
    assert stored(lab, task_id) == {}
    expect_complaint(lab, task_id)


ENTRIES: dict[str, bytes] = {
    "not json": b"hello",
    "empty": b"",
    "truncated": json.dumps(call("t.add", 1, 2)).encode()[:300],
    "binary": b"\xff\x00\xfe",
    "a number": b"17",
    "a string": b'"text"',
    "null": b"null",
    "an empty object": b"{}",
    "deep nesting": b"[" * 200_000,
    "unknown __type__": b'{"__type__": "nope", "__value__": {}}',
}


@pytest.mark.fastq_only("ends a stock worker, and the entry is lost")
@pytest.mark.parametrize("kind", list(ENTRIES))
def test_an_entry_that_is_no_message_is_kept_aside(lab: Lab, kind: str) -> None:
    if kind == "empty":
        pytest.skip("an empty entry is the ledger's own tombstone; Redis producers cannot mean anything by it")
    push(lab.db, ENTRIES[kind])
    goes_on(lab)
    letters = [decode_letter(entry) for entry in lab.db.entries(DEAD)]
    assert (ENTRIES[kind], "undecodable") in [(letter.message, letter.reason) for letter in letters]
    lab.db.client.delete(DEAD)
    assert complaints(lab, "celery")


@pytest.mark.fastq_only("an empty entry ends a stock worker")
def test_an_empty_entry_does_no_harm(lab: Lab) -> None:
    push(lab.db, b"")
    goes_on(lab)


@pytest.mark.fastq_only("ends a stock worker")
@pytest.mark.parametrize("field", ["properties", "headers", "body", "content-type", "content-encoding"])
@pytest.mark.parametrize("value", [None, 5, "text", [], {}], ids=repr)
def test_wrong_types_at_the_top(lab: Lab, field: str, value: Any) -> None:
    push(lab.db, call("t.add", 1, 2) | {field: value})
    goes_on(lab)


@pytest.mark.fastq_only("some of them end a stock worker")
@pytest.mark.parametrize(
    "name",
    ["retries", "timelimit", "group", "group_index", "root_id", "stamps", "shadow", "origin", "argsrepr", "lang"],
)
@pytest.mark.parametrize("value", [-1, "text", [1], {"a": 1}, True], ids=repr)
def test_wrong_types_in_headers(lab: Lab, name: str, value: Any) -> None:
    push(lab.db, call("t.add", 1, 2, headers={name: value}))
    goes_on(lab)


@pytest.mark.parametrize("args", [(), (1,), (1, 2, 3)], ids=len)
def test_arguments_that_do_not_fit_the_signature(lab: Lab, args: tuple[int, ...]) -> None:
    task_id = push(lab.db, call("t.add", *args))
    assert wait_state(lab, task_id, "FAILURE")["result"]["exc_type"] == "TypeError"
    task_id = push(lab.db, call("t.add", 1, 2, unknown=3))
    assert wait_state(lab, task_id, "FAILURE")["result"]["exc_type"] == "TypeError"
    goes_on(lab)


TEXTS = {
    "nul": "a\0b",
    "lone surrogate": "\ud800",
    "surrogate pair": "\U0001f600",
    "control": "".join(map(chr, range(32))),
    "separators": "\u2028\u2029\x06\x16",
    "empty": "",
}


@pytest.mark.parametrize("kind", list(TEXTS))
def test_odd_texts_go_through_unchanged(lab: Lab, kind: str) -> None:
    text = TEXTS[kind]
    task_id = push(lab.db, call("t.ret", [text, {text: text}]))
    wait_state(lab, task_id, "SUCCESS")
    assert stored(lab, task_id)["result"] == [text, {text: text}]


def test_numbers_beyond_64_bits_go_through_unchanged(lab: Lab) -> None:
    numbers = [10**400, -(2**63) - 1, 2**64, 1e-320, 0.1 + 0.2]
    assert lab.run("ret", numbers) == numbers


def test_a_name_with_odd_characters_is_not_registered(lab: Lab) -> None:
    for name in ("no\0such", "ünïcode", "", "x" * 10_000):
        task_id = push(lab.db, call(name))
        assert wait_state(lab, task_id, "FAILURE")["result"]["exc_type"] == "NotRegistered"
    goes_on(lab)


@pytest.mark.fastq_only("a stock worker ends or loops")
@pytest.mark.parametrize("task_id", ["\ud800", "a\0b", "", "x" * 5000, "../../etc", "with space"], ids=ascii)
def test_odd_ids(lab: Lab, task_id: str) -> None:
    push(lab.db, call("t.add", 1, 2, headers={"id": task_id}))
    goes_on(lab)


def test_the_last_of_two_equal_keys_counts(lab: Lab) -> None:
    message = call("t.add", 1, 2)
    text = json.dumps(message)
    push(lab.db, text[:-1] + ', "content-type": "application/json"}')
    eventually(lambda: stored(lab, message["headers"]["id"]).get("result") == 3)


@pytest.mark.parametrize("eta", ["9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00"])
def test_a_clock_far_off(other_lab: Lab, eta: str) -> None:
    worker = other_lab.worker()
    push(other_lab.db, call("t.mark", "far", headers={"eta": eta}))
    assert other_lab.run("add", 1, 1) == 2
    assert worker.alive


def test_an_expiry_far_off(lab: Lab) -> None:
    task_id = push(lab.db, call("t.add", 1, 2, headers={"expires": "9999-12-31T23:59:59+00:00"}))
    assert wait_state(lab, task_id, "SUCCESS")["result"] == 3


@pytest.mark.parametrize(
    ("embed", "state"),
    [
        ({"callbacks": [5]}, "FAILURE"),
        ({"chain": [7]}, "FAILURE"),
        ({"chord": 3}, "SUCCESS"),
        ({"errbacks": 1}, "SUCCESS"),
    ],
    ids=repr,
)
def test_embedded_signatures_that_make_no_sense(lab: Lab, embed: dict[str, Any], state: str) -> None:
    task_id = push(lab.db, envelope([[1, 2], {}, {**NO_EMBED, **embed}]))
    goes_on(lab)
    assert wait_state(lab, task_id, state)


def test_ten_megabytes_in_and_out(lab: Lab) -> None:
    size = 10 * 1024 * 1024
    assert lab.run("size", "x" * size) == size
    assert len(lab.send("big_result", size).get(timeout=60)) == size
    goes_on(lab)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_megabytes_in_and_out(lab: Lab) -> None:
    size = 100 * 1024 * 1024
    assert lab.send("size", "x" * size).get(timeout=120) == size
    assert len(lab.send("big_result", size).get(timeout=120)) == size
    goes_on(lab)


def test_many_bad_ones_among_good_ones(lab: Lab) -> None:
    bad = [CASES[name]["message"] for name in CASES if lab.engine != "celery" or name not in DEADLY_TO_CELERY]
    good = [call("t.mark", f"among-{number}") for number in range(len(bad))]
    for wrong, right in zip(bad, good, strict=True):
        push(lab.db, wrong)
        push(lab.db, right)
    eventually(lambda: all(lab.ledger.count("ran", f"among-{n}") == 1 for n in range(len(good))), within_s=30)
    goes_on(lab)


def test_the_worker_is_still_the_one_that_started(lab: Lab) -> None:
    assert len(lab.workers[-1].log_lines("ready\\.$")) == 1
    assert "Traceback" not in lab.workers[-1].log.split("ready.")[0]
