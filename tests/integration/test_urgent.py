"""Urgent tasks reach a worker that holds as many ordinary ones as it may."""

from __future__ import annotations

from tests.eventually import eventually
from tests.fix_lab import RESULT_S, Lab

LAST = "celery\x06\x169"
ORDINARY = [f"o{number}" for number in range(6)]


def full(lab: Lab) -> None:
    """One task runs until its gate is opened, four ordinary ones are held, two wait on the broker."""
    lab.send("hold", "long", priority=9)
    eventually(lambda: lab.ledger.tokens("start") == ["long"])
    for token in ORDINARY:
        lab.send("mark", token, priority=9)
    eventually(lambda: lab.db.length(LAST) == 2)


def test_an_urgent_task_is_fetched_and_an_ordinary_one_goes_back(lab: Lab) -> None:
    lab.worker("-c", "1", "--prefetch-multiplier", "4")
    full(lab)
    for token in ("u0", "u1"):
        lab.send("mark", token)
    eventually(lambda: (lab.db.length("celery"), lab.db.length(LAST)) == (0, 4))
    lab.ledger.open_gate("long")
    eventually(lambda: len(lab.ledger.tokens("ran")) == 8, within_s=RESULT_S)
    assert [token for token in lab.ledger.tokens("ran") if token != "long"] == ["u0", "u1", *ORDINARY]


def test_no_more_urgent_tasks_are_fetched_than_ordinary_ones_can_go_back(lab: Lab) -> None:
    lab.worker("-c", "1", "--prefetch-multiplier", "4")
    full(lab)
    for number in range(6):
        lab.send("mark", f"u{number}")
    eventually(lambda: (lab.db.length("celery"), lab.db.length(LAST)) == (2, 6))
    lab.ledger.open_gate("long")
    eventually(lambda: len(lab.ledger.tokens("ran")) == 12, within_s=RESULT_S)
    assert [token for token in lab.ledger.tokens("ran") if token[0] == "u"] == [f"u{n}" for n in range(6)]


def test_a_kill_behind_an_exchange_loses_and_repeats_nothing(lab: Lab) -> None:
    worker = lab.worker("-c", "1", "--prefetch-multiplier", "4")
    full(lab)
    lab.send("mark", "u0")
    eventually(lambda: lab.db.length("celery") == 0)
    worker.kill()
    lab.worker("-c", "1")
    eventually(lambda: len(lab.ledger.tokens("ran")) == 7, within_s=RESULT_S)
    assert sorted(lab.ledger.tokens("ran")) == sorted(["u0", *ORDINARY])
