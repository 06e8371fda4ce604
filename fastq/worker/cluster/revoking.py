"""Revoke tasks: what is held is not started, what runs may be ended, and the result store is told of the others."""

from __future__ import annotations

import json
import logging
import signal
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastq import _core
from fastq.program import Question, Reply, Verdict
from fastq.wire.envelope import Header
from fastq.worker.pipeline.admit import Admission
from fastq.worker.processes.children import Children
from fastq.worker.processes.desk import Desk
from fastq.worker.processes.running import Running, header_of, message, running
from fastq.worker.revoked import Revoked, as_list

logger: logging.Logger = logging.getLogger(__name__)

#: Up to so many ids, a search for their bytes tells faster than reading that a message is none of them.
FEW = 16


class Revoking:
    """The set of what is revoked, applied to what this worker holds. `desk` knows the result store, if there is one."""

    def __init__(
        self,
        ledger: _core.Ledger,
        *,
        children: Children,
        admission: Admission,
        desk: Desk | None,
        changed: Callable[[], None],
    ) -> None:
        self.revoked: Revoked = admission.revoked
        self._ledger, self._children, self._admission = ledger, children, admission
        self._desk, self._changed = desk, changed
        ledger.revoked = self.revoked.raw

    def merge(self, ids: Iterable[str]) -> None:
        """Others have revoked these: they are not started here either."""
        fresh = [task_id for task_id in ids if task_id not in self.revoked]
        if fresh:
            self.revoked.add(fresh)
            self._discard(fresh)
            self._changed()

    def revoke(self, ids: list[str]) -> tuple[list[Running], set[str]]:
        """Revoke; returns those of them that run here, and the ids of those that were held here and not started."""
        self.revoked.add(ids)
        held = {header.id for header in self._discard(ids)}
        wanted = set(ids)
        run = [task for task in running(self._ledger, self._children.slots) if task.header.id in wanted]
        self._flag(wanted - {task.header.id for task in run})
        self._changed()
        return run, held

    def revoke_stamps(self, headers: Mapping[str, Any]) -> None:
        """Revoke whatever carries one of these stamps."""
        self.revoked.add_stamps(headers)
        self._ledger.stamps_revoked = True
        self._discard(None)

    def stamped(self, headers: Mapping[str, Any]) -> list[tuple[Running, dict[str, set[Any]]]]:
        """What runs here with one of these stamps, and which of them it carries."""
        found = []
        for task in running(self._ledger, self._children.slots):
            carried = carries(task.header.stamps, headers)
            if carried:
                found.append((task, carried))
        return found

    def terminate(self, task: Running, signum: int) -> None:
        """End a running task by a signal to its child. It is told that it was revoked, unless it survives."""
        logger.info("Terminating %s (%s)", task.header.id, signum)
        if self._ledger.wish(task.slot, task.number, signum == signal.SIGUSR1):
            return  # one of many in its process, which ends it, and it alone
        if signum == signal.SIGUSR1:
            # The signal of the soft time limit: the task may do something about it, and its end counts.
            self._ledger.aim_soft_limit(task.slot, task.number)
            self._children.interrupt(task.slot)
            return
        verdict = Verdict(
            kind="terminated",
            signal_number=signum,
            started=True,
            pid=self._children.pid(task.slot),
            task=task.task if task.task != _core.NO_TASK else None,
        )
        self._children.terminate(task.slot, signum, verdict)

    def _discard(self, ids: list[str] | None) -> list[Header]:
        """Whatever is held and not started and revoked, by one of `ids` if they are given, is not going to be."""
        for slot in self._children.slots:
            self._ledger.recall(slot)
        few = None if ids is None or len(ids) > FEW else [task_id.encode("utf-8", "surrogateescape") for task_id in ids]
        found = []
        for entry, task, flags, payload in self._ledger.line():
            raw = message(flags, payload)
            if few is not None and not any(task_id in raw for task_id in few):
                continue
            header = header_of(raw)
            if header is not None and (why := self._admission.revoking(header)) is not None:
                verdict = Verdict(kind="revoked", reason=why, task=task if task != _core.NO_TASK else None)
                found.append((entry, raw, header, verdict))
        self._ledger.pull({entry for entry, *_ in found})
        for entry, raw, _header, verdict in found:
            self._admission.judge(entry, raw, verdict)
        return [header for _, _, header, _ in found]

    def _flag(self, ids: set[str]) -> None:
        """Have REVOKED stored for those that nobody has started, wherever their messages are."""
        if ids and self._desk is not None:
            self._desk.ask(Question(kind="flag", data=json.dumps(sorted(ids)).encode()), _flagged)


def _flagged(reply: Reply) -> None:
    if reply.failed:
        logger.warning("Revoked tasks may still be PENDING in the result store: %s", reply.value.decode())


def carries(stamps: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, set[Any]]:
    """Which of the wanted stamps these are, by header."""
    found: dict[str, set[Any]] = defaultdict(set)
    for header, values in wanted.items():
        carried = stamps.get(header)
        common = set() if carried is None else set(as_list(carried)) & set(as_list(values))
        if common:
            found[header] |= common
    return found
