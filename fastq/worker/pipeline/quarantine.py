"""Stop messages that kill their workers from doing so for ever; put aside what else the operator wants to look at.

A message whose child died is delivered again only where Celery would do that: acknowledged late, and with
`reject_on_worker_lost`. Before it is, its crash is counted on the broker. The one that makes it too many is told to a
child as a verdict, so the failure is stored and told; the child hands back a dead letter, and that and the end of the
claim are one step of a flush.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from fastq import _core
from fastq.program import TaskInfo, Verdict
from fastq.transport.connect import Endpoint
from fastq.transport.redis.deadletters import count_crash
from fastq.transport.redis.keys import Keys
from fastq.transport.redis.recover import Restored
from fastq.wire.deadletter import Death
from fastq.worker.pipeline.admit import Admission
from fastq.worker.poll import Errands, Timers

logger: logging.Logger = logging.getLogger(__name__)

#: Seconds before a count that did not get through is tried again. Its message waits; nothing is lost.
RETRY_S = 1.0

#: Seconds for which a late acknowledged task runs before it is written down as a suspect. One command for all.
SAY_S = 0.2


class Quarantine:
    """Counts crashes, and puts messages aside."""

    def __init__(
        self,
        ledger: _core.Ledger,
        *,
        admission: Admission,
        endpoint: Endpoint,
        keys: Keys,
        errands: Errands,
        timers: Timers,
        max_crashes: int,
        queue_key: Callable[[int], str],
        say: Callable[[Sequence[tuple[int, int, int]]], None],
    ) -> None:
        self._ledger, self._admission, self._endpoint, self._keys = ledger, admission, endpoint, keys
        self._errands, self._timers = errands, timers
        self.max_crashes: int = max_crashes
        self._queue_key = queue_key
        self._say = say
        self._said: list[tuple[int, int, int]] = []
        #: Crashes that are being counted: their messages are in nobody's hands meanwhile.
        self.counting: int = 0

    # Crashes

    def lost(self, entry: int, raw: bytes, verdict: Verdict, *, late: bool, death: Death | None) -> None:
        """A child has died over a message: have that told, or the message put aside."""
        place = self._ledger.where(entry) if late else None
        if place is None or death is None or not self.max_crashes or not _returns(self._admission.tasks, verdict):
            self._admission.judge(entry, raw, verdict)
            return
        self.counting += 1
        self._count(entry, raw, verdict, queue_key=self._queue_key(place[0]), death=death)

    def _count(self, entry: int, raw: bytes, verdict: Verdict, *, queue_key: str, death: Death) -> None:
        def count() -> list[Death]:
            client = self._endpoint.client(timeout_s=10.0)
            try:
                return count_crash(client, queue_key, raw, death, keys=self._keys)
            finally:
                client.close()

        def counted(outcome: list[Death] | Exception) -> None:
            if isinstance(outcome, Exception):
                logger.error("Could not count a crash: %s. Trying again in %g s.", outcome, RETRY_S)
                self._timers.set(f"crash-{entry}", RETRY_S, again)
                return
            self.counting -= 1
            self._admission.judge(entry, raw, self._sentence(verdict, outcome))

        def again() -> None:
            self._errands.run(count, counted, name="fastq-crash")

        again()

    def _sentence(self, verdict: Verdict, deaths: Sequence[Death]) -> Verdict:
        if len(deaths) < self.max_crashes:
            return verdict
        return poison(deaths, task=verdict.task, limit=self.max_crashes)

    def restored(self, restored: Restored) -> None:
        """Messages of a dead worker were put aside when they were restored: tell of their failures."""
        for raw, deaths in restored.quarantined:
            verdict = poison(deaths, task=self._admission.task_of(raw), limit=self.max_crashes, put_aside=True)
            self._admission.judge(self._ledger.adopt(), raw, verdict)

    def watch(self) -> None:
        """Say on the broker what runs under late acknowledgement, in case this worker does not survive it. To be called
        whenever something may run."""
        if self.max_crashes and (self._said or self._ledger.running_late()):
            self._timers.sooner("running", SAY_S, self._tell)

    def _tell(self) -> None:
        running = self._ledger.late_running()
        if running != self._said:
            self._said = running
            self._say(running)

    # Letters

    def collect(self) -> None:
        """Put aside what children have handed back for that."""
        for entry, key, letter in self._ledger.take_dead():
            target = self._keys.dead(self._queue_key(key)).encode()
            if entry is None:
                self._ledger.push(letter, target)
            else:
                self._ledger.requeue(entry, letter, target)


def poison(deaths: Sequence[Death], *, task: int | None, limit: int, put_aside: bool = False) -> Verdict:
    """The verdict on a message that has ended too many processes."""
    last = deaths[-1]
    reason = (
        f"Worker exited prematurely while it ran this task, {len(deaths)} times (--max-crashes is {limit}); "
        f"the message was quarantined, see `fastq dlq`. The last time: {last.reason}"
    )
    logger.error("A message has ended %d processes and is put aside: %s", len(deaths), last.reason)
    return Verdict(
        kind="poison", reason=reason, started=True, pid=last.pid, task=task, deaths=tuple(deaths), put_aside=put_aside
    )


def _returns(tasks: Sequence[TaskInfo], verdict: Verdict) -> bool:
    """Whether Celery would have the message delivered again."""
    task = tasks[verdict.task] if verdict.task is not None and verdict.task < len(tasks) else None
    if task is None:
        return False
    return (verdict.kind == "lost" and task.returns_if_lost) or (verdict.kind == "timeout" and task.returns_if_late)
