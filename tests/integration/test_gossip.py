"""Workers among each other: they greet, hear who comes and goes, and elect; with stock workers among them."""

from __future__ import annotations

import time

import pytest

from tests.eventually import eventually
from tests.fix_lab import Lab
from tests.fix_monitor import Monitor

LOUD = ("-l", "DEBUG", "--heartbeat-interval", "1")


@pytest.fixture(scope="module")
def party(module_lab: Lab) -> Lab:
    """A worker under test and a stock one that hear each other; the first knows of a revoked task."""
    module_lab.worker(*LOUD, quiet=())
    module_lab.app.control.revoke("known-to-the-first")
    stats = module_lab.app.control.inspect()
    eventually(lambda: "known-to-the-first" in ((stats.revoked() or {}).get("w1@tests") or []))
    module_lab.worker(*LOUD, engine="celery", quiet=())
    module_lab.worker(*LOUD, quiet=())
    return module_lab


def test_a_worker_without_neighbours_does_not_wait(lab: Lab) -> None:
    with Monitor(lab.db) as monitor:
        worker = lab.worker(quiet=())
    assert worker.wait_log("mingle: searching for neighbors")
    assert worker.wait_log("mingle: all alone")
    assert not monitor.told("BRPOP") or lab.engine == "celery"
    assert not lab.db.keys("*reply.celery.pidbox*")


def test_neighbours_tell_what_is_revoked(party: Lab) -> None:
    _first, stock, third = party.workers
    assert stock.wait_log("mingle: sync with 1 nodes")
    assert third.wait_log("mingle: sync with 2 nodes")
    assert third.wait_log("mingle: sync complete")
    revoked = party.app.control.inspect(timeout=2).revoked()
    assert {node: "known-to-the-first" in ids for node, ids in revoked.items()} == dict.fromkeys(
        ["w1@tests", "w2@tests", "w3@tests"], True
    )


def test_the_clocks_of_neighbours_come_together(party: Lab) -> None:
    for _ in range(5):
        party.run("add", 1, 1)
    clocks = [reply["clock"] for reply in (party.app.control.inspect(timeout=2).clock() or {}).values()]
    assert len(clocks) == 3
    assert max(clocks) - min(clocks) < 20


def test_workers_hear_who_comes(party: Lab) -> None:
    first, stock, third = party.workers
    assert first.wait_log("w2@tests joined the party")
    assert first.wait_log("w3@tests joined the party")
    assert stock.wait_log("w1@tests joined the party")
    assert third.wait_log("w2@tests joined the party")


@pytest.mark.fastq_only(reason="an election among stock workers only may end one of them")
def test_an_election_ends_for_all(party: Lab) -> None:
    party.app.control.election("mixed", "task", party.task("mark").s("mixed"))
    for worker in party.workers:
        worker.wait_log("I won the election 'mixed'|elected for 'mixed'")
    won = sum(len(worker.log_lines("I won the election")) for worker in party.workers)
    eventually(lambda: party.ledger.count("ran", "mixed") == won)


@pytest.mark.fastq_only(reason="the stock worker may have been ended by the election")
def test_workers_hear_who_goes_and_who_falls_silent(party: Lab) -> None:
    first, stock, third = party.workers
    third.kill()
    eventually(lambda: first.log_lines("missed heartbeat from w3@tests"), within_s=15)
    stock.stop()
    assert first.wait_log("w2@tests left")


@pytest.mark.fastq_only(reason="a stock worker that is alone ends over an election")
def test_who_is_alone_is_elected(lab: Lab) -> None:
    worker = lab.worker(quiet=())
    lab.app.control.election("alone", "task", lab.task("mark").s("alone"))
    eventually(lambda: lab.ledger.count("ran", "alone") == 1)
    lab.app.control.election("what", "nonsense", None)
    assert worker.wait_log("Unknown election topic 'nonsense'")
    assert lab.run("add", 1, 1) == 2


@pytest.mark.fastq_only(reason="what is published by anybody must not end a worker")
def test_nonsense_among_events_does_no_harm(lab: Lab) -> None:
    worker = lab.worker(quiet=())
    channel = f"/{lab.db.number}.celeryev/worker.heartbeat"
    for text in (b"", b"[]", b'{"body": 1}', b'{"body": "W10=", "content-type": "application/json"}', b"\xff" * 100):
        lab.db.client.publish(channel, text)
    assert lab.run("add", 1, 1) == 2
    assert not worker.log_lines("Traceback")


def test_without_mingle_and_gossip_nobody_is_asked_or_heard(lab: Lab) -> None:
    with Monitor(lab.db) as monitor:
        worker = lab.worker("-l", "DEBUG")
        began = time.monotonic()
        assert lab.run("add", 1, 1) == 2
        assert time.monotonic() - began < 5
    assert not worker.log_lines("mingle")
    assert not [c for c in monitor.told("PUBLISH") if "pidbox" in c[1]]
    assert not [c for c in monitor.told("PSUBSCRIBE", "SUBSCRIBE") if "celeryev" in " ".join(c)]
