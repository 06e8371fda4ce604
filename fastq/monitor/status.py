"""Say what a worker is doing, for people and for /status.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastq.monitor.snapshot import Child, Queue, Runs, Snapshot

#: Figures that say something to somebody who looks at one worker.
_SHOWN = ("held", "pending", "unstarted", "waiting", "forks", "reconnects", "restored", "result_backlog_bytes")


def status(snapshot: Snapshot, *, version: str, memory: Mapping[int, int]) -> dict[str, Any]:
    """One worker as JSON."""
    return {
        "worker": snapshot.worker,
        "node": snapshot.node,
        "version": version,
        "pid": snapshot.pid,
        "state": snapshot.state,
        "live": not snapshot.live,
        "ready": not snapshot.ready,
        "why_not_ready": snapshot.ready,
        "uptime_s": round(snapshot.uptime_s, 3),
        "broker_up": bool(snapshot.figures["broker_up"]),
        "counts": {name: snapshot.figures[name] for name in _SHOWN},
        "children": [_child(child, memory) for child in snapshot.children],
        "queues": [_queue(queue) for queue in snapshot.queues],
        "tasks": [_task(runs) for runs in snapshot.tasks],
        "waiting_for_slot": snapshot.for_slot,
    }


def _child(child: Child, memory: Mapping[int, int]) -> dict[str, Any]:
    running = child.running
    runs = running and {"task": running.task, "id": running.id, "for_s": round(running.for_s, 3)}
    return {
        "slot": child.slot + 1,
        "pid": child.pid,
        "state": child.state,
        "executed": child.executed,
        "pss_bytes": memory.get(child.pid),
        "running": runs,
        "in_flight": child.in_flight,
    }


def _queue(queue: Queue) -> dict[str, Any]:
    return {
        "queue": queue.queue,
        "length": queue.length if queue.looked_s is not None else None,
        "looked_s_ago": None if queue.looked_s is None else round(queue.looked_s, 3),
        "claimed": queue.claimed,
        "started": queue.started,
        "settled": queue.settled,
        "mean_wait_s": round(queue.waited_s / queue.started, 6) if queue.started else None,
    }


def _task(runs: Runs) -> dict[str, Any]:
    counted = {name: count for name, count in {**runs.ends, **runs.verdicts}.items() if count}
    mean_s = runs.spent_s / runs.executed if runs.executed else None
    return {"task": runs.task, **counted, "mean_run_s": None if mean_s is None else round(mean_s, 6)}
