"""All workloads, in the order of the tables: what each needs of a system, and how often it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from bench.measurement import Sample
from bench.peers.peer import Peer
from bench.workloads import fleet, latency, life, memory, sending, throughput, waiting, workflows
from bench.workloads.calibration import Calibration, Scale
from bench.workloads.throughput import KIB, Work, drained

Run = Callable[[Peer, Scale, Calibration], Iterable[Sample]]


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """One row of tables."""

    name: str
    what: str
    run: Run
    #: What a system must be able to do: see `bench.peers.peer.CAN`.
    needs: frozenset[str] = frozenset()
    #: Also with the default settings of systems that have tuned ones.
    defaults: bool = False
    #: Also with Celery's own client before fastq's worker: where the client is part of what is measured.
    clients: bool = False
    #: Also with Celery's pool of threads.
    threads: bool = False
    #: Also with what is set up for tasks that wait.
    waits: bool = False
    #: Also under monitoring agents.
    agents: bool = False
    #: Also with fastq's coroutines.
    coroutines: bool = False
    #: Rounds at most; 0: all. For what takes long and does not vary.
    at_most: int = 0
    #: Workloads of one name here stand together in the list, and one system runs all of them before it is the next
    #: one's turn: they share its Redis and its client, and its worker if it has one that stays.
    together: str = ""
    #: Seconds one run may take, whatever hangs.
    within_s: float = 60.0


def _one(name: str, what: str, run: Run, *needs: str, **more: Any) -> Workload:
    return Workload(name=name, what=what, run=run, needs=frozenset(needs), **more)


def _far(rtt_ms: float) -> Run:
    return drained(Work(task="stored", rtt_ms=rtt_ms))


def _blob(size: int) -> Run:
    return drained(Work(task="blob", args=({"bytes": size},), size=size))


WORKLOADS: tuple[Workload, ...] = (
    _one("noop", "no-op, results off", drained(Work(task="noop", results=False)), defaults=True, threads=True),
    _one("stored", "no-op, results on", drained(Work(task="stored")), agents=True, defaults=True, threads=True),
    _one("late", "no-op, results on, late acknowledgement", drained(Work(task="late")), "acks"),
    _one(
        "sleep", "10 ms asleep", drained(Work(task="nap", args=(0.01,), results=False)), "nap", threads=True, waits=True
    ),
    _one(
        "sleep-async",
        "10 ms asleep in a coroutine",
        drained(Work(task="nap_async", args=(0.01,), results=False)),
        "nap_async",
        coroutines=True,
    ),
    _one("cpu", "1 ms of computing", drained(Work(task="spin", args=(0.001,), results=False)), threads=True),
    _one("payload-1k", "1 KB each way, backlog", _blob(KIB), together="payload", at_most=3),
    _one("payload-100k", "100 KB each way, backlog", _blob(100 * KIB), together="payload", at_most=3),
    _one("payload-1m", "1 MB each way, backlog", _blob(KIB * KIB), together="payload", at_most=3),
    _one(
        "calls",
        "delay().get(), one after the other",
        latency.calls,
        "results",
        defaults=True,
        clients=True,
        threads=True,
        together="calls",
    ),
    _one("calls-100", "delay().get(), 100 in flight", latency.together, "results", clients=True, together="calls"),
    _one(
        "echo-100k", "a call with 100 KB each way", latency.echoed(100 * KIB), "results", clients=True, together="calls"
    ),
    _one("chain-10", "a chain of 10", workflows.chain, "chain", clients=True, together="calls"),
    _one("group-1000", "a group of 1,000", workflows.group(1000), "group", clients=True, together="calls"),
    _one("chord-100", "a chord of 100", workflows.chord(100), "chord", clients=True, together="calls"),
    _one("steady", "latency at a steady pace, 10, 50 and 80 % of the system's most", latency.steady, threads=True),
    _one("mixed", "short tasks among long ones", latency.mixed, "nap", threads=True, waits=True),
    _one("urgent", "urgent tasks ahead of a backlog", latency.urgent, "urgent", defaults=True, at_most=3),
    _one("chord-10000", "a chord of 10,000", workflows.chord(10_000), "many_chords", at_most=1, within_s=240.0),
    _one("countdowns", "100,000 countdowns", waiting.countdowns, "fill_later", at_most=1, within_s=150.0),
    _one("backlog", "a backlog of 1,000,000", throughput.backlog, at_most=1, within_s=120.0),
    _one("send", "sending one by one", sending.sent("send"), clients=True, together="send"),
    _one("send-many", "sending many", sending.sent("send_many"), together="send"),
    _one("send-async", "sending by an asynchronous library", sending.sent("fill_async"), "fill_async", together="send"),
    _one("memory", "memory, idle and after 100,000 tasks", memory.size, threads=True, at_most=1, within_s=120.0),
    _one("start", "start to first task", life.started),
    _one(
        "kill",
        "kill -9 of the worker, acknowledged early or as the system does",
        life.killed("noop"),
        at_most=1,
        within_s=180.0,
    ),
    _one(
        "kill-late", "kill -9 of the worker, acknowledged late", life.killed("late"), "acks", at_most=1, within_s=180.0
    ),
    _one("kill-child", "kill -9 of a child", life.child_killed, at_most=1, within_s=180.0),
    _one("stop", "TERM at full load", life.stopped, at_most=1, within_s=180.0),
    _one("near", "no-op, results on, through a proxy", _far(0.001), together="distance", at_most=3),
    _one("far-1", "the same, 1 ms to Redis", _far(1.0), together="distance", at_most=3),
    _one("far-2", "the same, 2 ms to Redis", _far(2.0), together="distance", at_most=3),
    _one("fleet", "workers of Celery and fastq on one queue", fleet.mixed, "mixed"),
)

NAMES: tuple[str, ...] = tuple(one.name for one in WORKLOADS)


def takes(workload: Workload, peer: Peer) -> bool:
    """Whether a workload is for this system with these settings."""
    if not workload.needs <= peer.can:
        return False
    if peer.variation and not getattr(workload, peer.variation):
        return False
    return workload.defaults or peer.settings == "tuned"
