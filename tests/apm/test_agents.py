"""Monitoring agents see under fastq what they see under `celery worker`, and lose nothing when a child ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.apm import agents
from tests.apm.agents import Seen, picture
from tests.apm.fix_apm import Watched
from tests.eventually import NotInTime, eventually
from tests.fix_lab import Lab, wait_state

AGENTS = ("sentry", "sentry_at_import", "opentelemetry", "opentelemetry_auto", "datadog", "newrelic", "elastic")


@pytest.fixture(params=AGENTS)
def agent(request: pytest.FixtureRequest) -> ModuleType:
    """Each agent whose packages are installed."""
    module = agents.named(request.param)
    missing = agents.missing(module)
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: `make apm` brings and tests all agents")
    return module


@pytest.fixture
def watched(lab: Lab, agent: ModuleType, certificate: Path) -> Iterator[Watched]:
    """The engine under test, watched."""
    found = Watched(lab, agent, certificate=certificate if hasattr(agent, "TLS") else None)
    with found.collector:
        yield found


@pytest.fixture
def reference(other_lab: Lab, agent: ModuleType, certificate: Path) -> Iterator[Watched]:
    """A stock worker, watched."""
    found = Watched(other_lab, agent, certificate=certificate if hasattr(agent, "TLS") else None)
    with found.collector:
        yield found


def go_through_everything(lab: Lab) -> None:
    """One task of each kind, and wait for all of them."""
    expired = lab.send("ok", "too late", expires=-1)
    sent = {name: lab.send(name) for name in ("ok", "called", "retry", "call", "replace", "ignore", "reject")}
    failing = [lab.send(name) for name in ("fail", "expected", "give_up", "slow")]
    sent["last"] = lab.send("ok", "last")
    child = {name: sent[name].get(timeout=30) for name in ("ok", "called", "retry", "call", "replace", "last")}["call"]
    wait_state(lab, child, "SUCCESS")
    wait_state(lab, expired.id, "REVOKED")
    for result in failing:
        wait_state(lab, result.id, "FAILURE")


@pytest.mark.fastq_only
def test_the_same_is_seen_as_under_celery(watched: Watched, reference: Watched) -> None:
    workers = [watched.start(ready=False), reference.start(engine="celery", ready=False)]
    for worker in workers:
        worker.wait_ready()
    go_through_everything(watched.lab)
    go_through_everything(reference.lab)
    workers[0].stop()
    ours = picture(watched.seen())
    assert ours
    with contextlib.suppress(NotInTime):
        # Its children leave without a word to some agents: so look while they live.
        eventually(lambda: picture(reference.seen()) == ours, within_s=0 if hasattr(watched.agent, "AT_EXIT") else 10)
    workers[1].stop()
    theirs = picture(reference.seen())
    assert show(ours) == show(theirs)


def show(lines: Any) -> list[str]:
    return sorted(f"{count} × {line}" for line, count in lines.items())


@pytest.mark.fastq_only
def test_nothing_is_lost_when_children_retire(watched: Watched) -> None:
    """Neither by those that have run their number of tasks, nor by the last ones, which a warm shutdown ends."""
    worker = watched.start("--max-tasks-per-child", "3", concurrency=2)
    results = [watched.lab.send("ok", number) for number in range(20)]
    assert [result.get(timeout=60) for result in results] == list(range(20))
    worker.stop()
    assert len([seen for seen in watched.seen() if is_run_of_ok(seen)]) == 20


def is_run_of_ok(seen: Seen) -> bool:
    return seen.kind in ("run", "celery.run", "queue.task.celery") and seen.name.endswith("ok")
