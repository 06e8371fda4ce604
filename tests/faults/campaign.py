"""Numbered tasks under load, faults at random moments, and the books of what was executed."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from fastq.wire.packed import pack
from tests.eventually import eventually
from tests.fix_lab import Lab
from tests.fix_worker import WorkerProcess
from tests.push import call

#: The seed of the run; a failure is repeated with the one its message names.
SEED = int(os.environ.get("FASTQ_FAULT_SEED", "1"))
#: How many faults one test makes; `make faults` sets FASTQ_TEST_SLOW and gets many.
ROUNDS = int(os.environ.get("FASTQ_FAULT_ROUNDS", "25" if os.environ.get("FASTQ_TEST_SLOW") else "2"))
#: Messages per fault: enough that a worker holds hundreds when it dies, few enough for a suite.
BATCH = int(os.environ.get("FASTQ_FAULT_BATCH", "400"))
#: Seconds until everything has been run after the last fault: a dead worker's lease is ten.
SETTLED_S = 45.0


@dataclass
class Verdict:
    """What the ledger says in the end."""

    missing: list[str]
    repeated: dict[str, int]
    seed: int

    def __repr__(self) -> str:
        few = dict(list(self.repeated.items())[:5])
        return f"seed {self.seed}: {len(self.missing)} missing {self.missing[:5]}, {len(self.repeated)} repeated {few}"


class Campaign:
    """One lab, one seed; `load` sends a batch, `verdict` counts."""

    def __init__(self, lab: Lab, *, task: str, concurrency: int = 2, wire: str = "celery") -> None:
        self.lab = lab
        self.wire = wire
        self.task = task
        self.concurrency = concurrency
        self.chance = random.Random(f"{SEED}-{task}")
        self.sent: list[str] = []

    def load(self, count: int = BATCH) -> None:
        """Push a batch at once; its results are ignored, the ledger is what counts."""
        tokens = [f"n{len(self.sent) + number}" for number in range(count)]
        messages = [self.message(token) for token in tokens]
        with self.lab.db.client.pipeline(transaction=False) as pipe:
            for start in range(0, count, 100):
                pipe.lpush("celery", *messages[start : start + 100])
            pipe.execute()
        self.sent += tokens

    def message(self, token: str) -> str | bytes:
        """One task's message."""
        if self.wire == "fastq":
            options = {"ignore_result": True}
            return pack(self.task, (token,), task_id=str(uuid.uuid4()), queue="celery", options=options)
        return json.dumps(call(self.task, token, headers={"ignore_result": True, "argsrepr": token}))

    def worker(self) -> WorkerProcess:
        """Start one more worker."""
        return self.lab.worker(concurrency=self.concurrency)

    def done(self) -> int:
        """How many executions are in the ledger."""
        return len(self.lab.ledger.tokens("ran"))

    def wait_somewhere(self) -> None:
        """Until a random part of the last batch has been run: faults hit in the middle of the work."""
        target = len(self.sent) - BATCH + self.chance.randrange(5, BATCH * 3 // 4)
        eventually(lambda: self.done() >= target, within_s=30, saying=f"{target} of {len(self.sent)} were run")

    def held(self) -> list[str]:
        """The tokens of messages (of Celery's wire) that workers have claimed, and not told Redis to be done."""
        found = (re.search(rb'"argsrepr": "(n\d+)"', text) for text in self.lab.books())
        return [match[1].decode() for match in found if match]

    def settle(self, *, tolerate: int = 0) -> Verdict:
        """Wait until (nearly) everything was run and nothing waits or is held, then count."""
        wanted = set(self.sent)

        def quiet() -> bool:
            return len(wanted - set(self.lab.ledger.tokens("ran"))) <= tolerate and self.lab.idle()

        try:
            eventually(quiet, within_s=SETTLED_S)
        except AssertionError as late:
            raise AssertionError(f"not settled: {self.verdict()}, held {self.lab.held()}") from late
        return self.verdict()

    def verdict(self) -> Verdict:
        """Which numbers are missing, and which were run more than once."""
        counts = self.lab.ledger.counts("ran")
        repeated = {token: count for token, count in counts.items() if count > 1}
        return Verdict([token for token in self.sent if not counts[token]], repeated, SEED)


Victim = Callable[[WorkerProcess, random.Random], None]


def kill_engine(worker: WorkerProcess, chance: random.Random) -> None:
    """SIGKILL the main process."""
    worker.kill()


def kill_nursery(worker: WorkerProcess, chance: random.Random) -> None:
    """SIGKILL the process children are forked from; they die with it."""
    os.kill(worker.nursery, signal.SIGKILL)


def kill_child(worker: WorkerProcess, chance: random.Random) -> None:
    """SIGKILL one process that runs tasks."""
    children = eventually(lambda: worker.children)
    try:
        os.kill(chance.choice(children), signal.SIGKILL)
    except ProcessLookupError:
        pass  # it was being replaced just then
