"""Everything that a worker's shared memory says, as plain values: what metrics, status and tables are made from."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from fastq import _core, clock
from fastq.errors import PeerError
from fastq.monitor.local import LocalWorker
from fastq.wire.envelope import read_header

#: What a child is said to do.
_STATES = {_core.BOOTING: "starting", _core.READY: "idle", _core.RETIRING: "leaving"}


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A task that a child runs now."""

    task: str
    id: str
    for_s: float


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """A child, and what it does: starting, idle, busy or leaving."""

    slot: int
    pid: int
    state: str
    executed: int
    #: What it runs; of many in flight, what began first.
    running: Running | None = None
    #: Tasks in flight in its event loop; 0 without one.
    in_flight: int = 0


class Runs(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one task's messages. `ends` are in the order of ENDS, `steps` belong to RUN_STEPS_S."""

    task: str
    ends: dict[str, int]
    verdicts: dict[str, int]
    spent_s: float
    steps: list[int]

    @property
    def executed(self) -> int:
        """How often it was run to an end."""
        return sum(count for end, count in self.ends.items() if end != "discarded")


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """One queue of a worker. `steps` belong to WAIT_STEPS_S."""

    queue: str
    claimed: int
    started: int
    settled: int
    length: int
    #: Seconds since the length was looked up; None: never.
    looked_s: float | None
    waited_s: float
    steps: list[int]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One worker at one moment."""

    worker: str
    node: str
    pid: int
    state: str
    live: str
    ready: str
    started: str
    at: float
    silent_s: float
    uptime_s: float
    figures: dict[str, int]
    children: list[Child]
    tasks: list[Runs]
    queues: list[Queue]
    #: Messages that wait on the broker for a slot, by task; of the tasks that have slots (`max_running`).
    for_slot: dict[str, int] = {}


#: Ways in which a task ends in a child, in the order in which they are counted.
ENDS = ("succeeded", "failed", "retried", "ignored", "rejected", "discarded")


def take(worker: LocalWorker) -> Snapshot:
    """Read it all. Some counters may be a few tasks ahead of others: nobody stops for a reader."""
    figures = worker.board.figures()
    return Snapshot(
        worker=worker.name,
        node=worker.node,
        pid=worker.pid,
        state=worker.state,
        live=worker.why_not_live(),
        ready=worker.why_not_ready(),
        started=worker.why_not_started(),
        at=clock.now(),
        silent_s=worker.silent_s,
        uptime_s=max(0.0, clock.now() - figures["up_since_ms"] / 1000) if figures["up_since_ms"] else 0.0,
        figures=figures,
        children=children(worker),
        tasks=tasks(worker.board),
        queues=queues(worker.board),
        for_slot=for_slot(worker.board),
    )


def children(worker: LocalWorker) -> list[Child]:
    """Those whose process lives."""
    core = worker.segment.core
    return [
        _child(worker, slot, seen)
        for slot in range(worker.board.figure("slots_used"))
        if (seen := core.peek(slot))["state"] in _STATES and _lives(seen)
    ]


def _lives(seen: dict[str, int]) -> bool:
    # A child that starts has not written its number yet; of one that is gone the slot keeps what it was.
    return not seen["pid"] or Path(f"/proc/{seen['pid']}").exists()


def _child(worker: LocalWorker, slot: int, seen: dict[str, int]) -> Child:
    running = _oldest(worker, slot) if seen["in_flight"] else _only(worker, slot)
    state = "busy" if seen["started_ns"] else _STATES[seen["state"]]
    return Child(
        slot=slot,
        pid=seen["pid"],
        state=state,
        executed=seen["executed"],
        running=running,
        in_flight=seen["in_flight"],
    )


def _only(worker: LocalWorker, slot: int) -> Running | None:
    found = worker.board.running(slot)
    return None if found is None else running_task(found[1], found[2], began_ns=found[3])


def _oldest(worker: LocalWorker, slot: int) -> Running | None:
    found = worker.board.oldest(slot)
    if found is None:
        return None
    name, task_id, began_ns = found
    for_s = max(0.0, (clock.monotonic_ns() - began_ns) / 1e9)
    return Running(task=name.decode("utf-8", "replace"), id=task_id.decode("utf-8", "replace") or "?", for_s=for_s)


def running_task(payload: bytes, flags: int, *, began_ns: int) -> Running:
    """What a frame says of its task."""
    for_s = max(0.0, (clock.monotonic_ns() - began_ns) / 1e9)
    try:
        header = read_header(Path(os.fsdecode(payload)).read_bytes() if flags & _core.SIDE else payload)
    except (PeerError, OSError):
        return Running(task="?", id="?", for_s=for_s)
    return Running(task=header.shadow or header.task or "?", id=header.id or "?", for_s=for_s)


def tasks(board: _core.Board) -> list[Runs]:
    """All tasks of which anything has been counted."""
    found = []
    for row, name in enumerate(board.tasks()):
        ends, spent_ns, steps = board.runs(row)
        verdicts = board.verdicts(row)
        if any(ends) or any(verdicts):
            found.append(
                Runs(
                    task=name.decode("utf-8", "replace"),
                    ends=dict(zip(ENDS, ends, strict=True)),
                    verdicts=dict(zip(_core.VERDICTS, verdicts, strict=True)),
                    spent_s=spent_ns / 1e9,
                    steps=steps,
                )
            )
    return found


def for_slot(board: _core.Board) -> dict[str, int]:
    """Of all tasks that have slots, how many messages wait for one."""
    return {
        name.decode("utf-8", "replace"): count
        for row, name in enumerate(board.tasks())
        if (count := board.for_slot(row)) is not None
    }


def queues(board: _core.Board) -> list[Queue]:
    """All queues that are or were consumed."""
    found = []
    for row, name in enumerate(board.queues()):
        claimed, settled, length, looked_ns = board.queue(row)
        started, waited_ns, steps = board.waits(row)
        if row or claimed:
            found.append(
                Queue(
                    queue=name.decode("utf-8", "replace"),
                    claimed=claimed,
                    started=started,
                    settled=settled,
                    length=length,
                    looked_s=(clock.monotonic_ns() - looked_ns) / 1e9 if looked_ns else None,
                    waited_s=waited_ns / 1e9,
                    steps=steps,
                )
            )
    return found
