"""Inspect commands about the worker itself: is it there, what is it made of, how does it do."""

# The parameters are Celery's: clients of any version may send more of them than are used.
# ruff: noqa: A002

from __future__ import annotations

import gc
import logging
import os
import resource
from collections import deque
from pathlib import Path
from typing import Any

from fastq import clock as clocks
from fastq.program import QueueInfo
from fastq.worker.cluster.commands.state import Elsewhere, State, ok

logger: logging.Logger = logging.getLogger(__name__)

#: What Celery's prefork pool calls itself. Scripts look for it; a fastq worker's children do the same work.
IMPLEMENTATION = "celery.concurrency.prefork:TaskPool"

#: Memory samples that `memdump` shows, and that are kept.
_samples: deque[str] = deque(maxlen=10)


def ping(state: State, **kwargs: Any) -> dict[str, Any]:
    """Ping worker(s)."""
    return ok("pong")


def clock(state: State, **kwargs: Any) -> dict[str, int]:
    """Get current logical clock value."""
    return {"clock": state.clock.value}


def hello(state: State, from_node: str, revoked: Any = None, **kwargs: Any) -> dict[str, Any] | None:
    """Request mingle sync-data."""
    if from_node == state.node:
        return None
    logger.info("sync with %s", from_node)
    if revoked:
        state.actions.merge_revoked(revoked)
    return {"revoked": state.actions.revoked(), "clock": state.clock.forward()}


def conf(state: State, with_defaults: bool = False, **kwargs: Any) -> Elsewhere:
    """List configuration."""
    return Elsewhere(name="conf", arguments={"with_defaults": with_defaults, **kwargs})


def report(state: State) -> Elsewhere:
    """Information about Celery installation for bug reports."""
    return Elsewhere(name="report", arguments={})


def objgraph(state: State, num: int = 200, max_depth: int = 10, type: str = "Request") -> Elsewhere:
    """Create graph of uncollected objects (memory-leak debugging)."""
    return Elsewhere(name="objgraph", arguments={"num": num, "max_depth": max_depth, "type": type})


# ---------------------------------------------------------------------------- stats


def stats(state: State, **kwargs: Any) -> dict[str, Any]:
    """Request worker statistics/information."""
    counts = state.view.ledger.accepted()
    return {
        "total": {task.name: n for task, n in zip(state.view.admission.tasks, counts, strict=False) if n > 0},
        "pid": os.getpid(),
        "clock": str(state.clock.value),
        "uptime": round(clocks.monotonic() - state.since_s),
        "pool": _pool(state),
        **({"autoscaler": state.scaler.info()} if state.scaler.on else {}),
        "broker": state.program.broker_facts,
        "prefetch_count": state.prefetch_count(),
        "rusage": _rusage(),
    }


def _pool(state: State) -> dict[str, Any]:
    program, children = state.program, state.view.children
    return {
        "implementation": IMPLEMENTATION,
        "max-concurrency": children.wanted,
        "processes": [pid for slot in children.slots if (pid := children.pid(slot))],
        "max-tasks-per-child": program.max_tasks_per_child or "N/A",
        "put-guarded-by-semaphore": False,
        "timeouts": [program.soft_time_limit or 0, program.time_limit or 0],
        "writes": spread([state.view.segment.peek(slot)["written"] for slot in children.slots]),
    }


def spread(counts: list[int]) -> dict[str, Any]:
    """How tasks were spread over the children, in the figures of Celery's pool, which knows those that got one."""
    total, values = sum(counts), [count for count in counts if count]
    share = [f"{count / total:.2f}" for count in values]
    return {
        "total": total,
        "avg": f"{1 / len(values):.2f}" if values else "0.00",
        "all": ", ".join(share),
        "raw": ", ".join(str(count) for count in values),
        "strategy": "fair",
        "inqueues": {"total": len(counts), "active": 0},
    }


_RUSAGE = (
    *("utime", "stime", "maxrss", "ixrss", "idrss", "isrss", "minflt", "majflt"),
    *("nswap", "inblock", "oublock", "msgsnd", "msgrcv", "nsignals", "nvcsw", "nivcsw"),
)


def _rusage() -> dict[str, Any]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {name: getattr(usage, f"ru_{name}") for name in _RUSAGE}


# ---------------------------------------------------------------------------- memory


def memsample(state: State, **kwargs: Any) -> str:
    """Sample current RSS memory usage."""
    _samples.append(_resident())
    return _samples[-1]


def memdump(state: State, samples: int = 10, **kwargs: Any) -> str:
    """Dump statistics of previous memsample requests."""
    lines = ["- rss (sample):", *(f"-    > {sample}," for sample in _samples)] if _samples else []
    _samples.clear()
    gc.collect()
    return "".join(f"{line}\n" for line in [*lines, f"- rss (end): {_resident()}."])


def _resident() -> str:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return human_bytes(pages * resource.getpagesize())


def human_bytes(count: float) -> str:
    """As Celery writes sizes: five digits and a unit."""
    for size, unit in ((2**40, "TB"), (2**30, "GB"), (2**20, "MB"), (2**10, "KB")):
        if count >= size:
            value = count / size
            return f"{int(value) if value == int(value) else f'{value:.5}'}{unit}"
    return f"{count:g}b"


# ---------------------------------------------------------------------------- queues


def active_queues(state: State) -> list[dict[str, Any]]:
    """List the task queues a worker is currently consuming from."""
    return [describe_queue(queue) for queue in state.view.consumers.queues]


def describe_queue(queue: QueueInfo) -> dict[str, Any]:
    """What kombu's Queue says of itself: the application's words, or those of a queue that has only a name."""
    if queue.details:
        return queue.details
    exchange = {
        "name": queue.exchange,
        "type": queue.exchange_type,
        "arguments": None,
        "durable": True,
        "passive": False,
        "auto_delete": False,
        "delivery_mode": None,
        "no_declare": False,
    }
    return {
        "name": queue.name,
        "exchange": exchange,
        "routing_key": queue.routing_key,
        **dict.fromkeys(("queue_arguments", "binding_arguments", "consumer_arguments")),
        "durable": True,
        "exclusive": False,
        "auto_delete": False,
        "no_ack": False,
        "alias": None,
        "bindings": [],
        **dict.fromkeys(("no_declare", "expires", "message_ttl", "max_length", "max_length_bytes", "max_priority")),
    }
