"""Every signal of a worker is sent, as the table in the docs says: arguments, sender, process."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.apps import telling
from tests.eventually import eventually
from tests.fix_lab import Lab, wait_state
from tests.push import call, push

PAGE = Path(__file__).parents[2] / "docs" / "celery" / "signals.md"

#: Not sent by a worker with processes; `task_sent` is an old name that nobody connects to by itself.
OTHERS = {"task_sent"} | {name for name in telling.ALL if name.startswith("eventlet_")}

#: A stand-in has the name of what it stands for, or a plainer one.
SENDERS = {"asynpool": "pool"}


def table(engine: str) -> dict[str, tuple[list[str], str, set[str]]]:
    """Signal to arguments, sender and processes of this engine."""
    rows = re.findall(r"^\| `(\w+)` \|(.*)\| (\w+) \| ([\w, ]+) \| ([\w, ]+) \|$", PAGE.read_text(), re.MULTILINE)
    column = 3 if engine == "celery" else 4
    return {row[0]: (sorted(re.findall(r"`(\w+)`", row[1])), row[2], set(row[column].split(", "))) for row in rows}


def test_the_table_has_all_signals() -> None:
    assert set(table("fastq")) == set(telling.ALL) - OTHERS


class Seen:
    """What the application has written down."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "signals.txt"

    def all(self) -> dict[str, list[dict[str, Any]]]:
        found = defaultdict(list)
        for line in self.path.read_text().splitlines():
            found[json.loads(line)["signal"]].append(json.loads(line))
        return found

    def row(self, name: str, *, engine: str) -> tuple[list[str], str, set[str]]:
        """As `table` gives it."""
        lines = self.all()[name]
        (arguments,) = {tuple(line["arguments"]) for line in lines}
        (sender,) = {SENDERS.get(line["sender"], line["sender"]) for line in lines}
        main = "main" if engine == "celery" else "nursery"
        return list(arguments), sender, {main if line["role"] == "main" else line["role"] for line in lines}


@pytest.fixture(scope="module")
def seen(module_lab: Lab) -> Seen:
    """A worker's whole life, with a task of every fate."""
    lab = module_lab
    schedule = {"tick": {"task": "t.add", "schedule": 0.5, "args": [1, 2], "options": {"queue": "of_beat"}}}
    lab.use("tests.apps.telling", beat_schedule=schedule)
    args = ["-B", "-s", f"{lab.folder}/schedule", "--bikeshed", "green", "-Zfancy", ".disable_rate_limits=1"]
    worker = lab.worker(*args, quiet=("--without-mingle", "--without-gossip", "--heartbeat-interval", "1"))
    assert lab.run("add", 1, 2) == 3
    assert lab.run("retry", 1) == 1
    wait_state(lab, lab.send("failkey").id, "FAILURE")
    wait_state(lab, lab.send("add", 1, 2, expires=-10).id, "REVOKED")
    wait_state(lab, lab.app.send_task("no.such").id, "FAILURE")
    push(lab.db, call("t.add", 1, 2, headers={"eta": "nonsense"}))
    push(lab.db, call("t.add", 1, 2) | {"body": "W1tdLCBbXSwge31d"})  # [[], [], {}]
    found = Seen(lab.folder)
    late = {"task_rejected", "task_internal_error", "beat_embedded_init"}
    eventually(lambda: late <= set(found.all()), saying=f"{late} have been sent: {set(found.all())}")
    eventually(lambda: lab.db.length("of_beat") > 0)
    worker.stop()
    lab.worker(env={"FASTQ_TEST_LOGGING": "own"}).stop()
    return found


@pytest.mark.parametrize("name", sorted(table("fastq")))
def test_a_signal_is_sent_as_the_table_says(module_lab: Lab, seen: Seen, name: str) -> None:
    assert seen.row(name, engine=module_lab.engine) == table(module_lab.engine)[name]


def test_options_of_the_application_arrive(module_lab: Lab, seen: Seen) -> None:
    assert module_lab.ledger.tokens("shed")[0] == "green"
    assert module_lab.ledger.tokens("template")[0] == "fancy"


def test_receivers_get_every_option(module_lab: Lab, seen: Seen) -> None:
    from celery.bin.worker import worker

    names = {str(param.name) for param in worker.params} - {"uid", "gid"}
    more = {"bikeshed", "template", "no_color", "pool_cls", "loglevel", "logfile", "pidfile", "statedb"}
    given = set(module_lab.ledger.tokens("options")[0].split(","))
    assert (names - {"hostname", "disable_prefetch", "pool"}) | more <= given | {"pool"}, names - given


def test_a_receiver_can_change_queues(module_lab: Lab, seen: Seen) -> None:
    assert module_lab.workers[0].log_lines("of_the_receiver")


def test_an_option_that_nobody_knows_is_a_usage_error(lab: Lab) -> None:
    worker = lab.worker("--concurency", "3", ready=False)
    assert worker.wait() == 2
    assert "--concurency" in worker.log
    assert "--concurrency" in worker.log
