"""The headline: what fastq promises, as rows of a table over a results file."""

from __future__ import annotations

from typing import Any

import msgspec

from bench.measurement import Measurement, Results


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """One row: a measure of a workload, and what our median is to reach. Without a number it is only shown."""

    what: str
    workload: str
    measure: str = "rate"
    #: CPU of this role per task, instead of the value itself.
    role: str = ""
    #: At least so many times as good as Celery.
    times: float | None = None
    #: At least this share of what we reach in the workload `beside`.
    share: float | None = None
    beside: str = ""
    #: At most this value.
    limit: float | None = None


PROMISES = (
    Promise(what="no-op, results ignored", workload="noop", times=60),
    Promise(what="no-op, results stored", workload="stored", times=50),
    Promise(what='no-op, results ignored, `wire="fastq"`', workload="noop-packed", times=150),
    Promise(what='no-op, results stored, `wire="fastq"`', workload="stored-packed"),
    Promise(what="CPU per task, results stored: main process", workload="stored", role="engine", limit=4.0),
    Promise(what="CPU per task, results stored: children", workload="stored", role="children", limit=8.0),
    Promise(what="CPU per task, results stored: Redis", workload="stored", role="redis", limit=6.0),
    Promise(what="`acks_late`, results stored", workload="late", times=50),
    Promise(what="results stored, task events on (`-E`)", workload="events"),
    Promise(
        what="results stored, 2 ms to Redis; beside: the same proxy without delay",
        workload="far",
        beside="far-beside",
        share=0.8,
    ),
    Promise(
        what="tasks of 1 ms, children replaced every 1,000 tasks; beside: not replaced",
        workload="brief-recycled",
        beside="brief",
        share=0.95,
    ),
    Promise(what="`delay().get()`, one at a time, p50", workload="get", measure="p50", times=3),
    Promise(what="`delay().get()`, one at a time, p99", workload="get", measure="p99", times=2),
    Promise(what="the same with a lean client, p50", workload="get-lean", measure="p50", times=3),
    Promise(what="the same with a lean client, p99", workload="get-lean", measure="p99", times=2),
    Promise(what="`delay`, one task at a time", workload="send", times=5),
    Promise(what="`send_many`; beside: a batch of kombu's", workload="send-many", times=20),
    Promise(what="sending one at a time into a buffer", workload="send-buffered"),
    Promise(what="sending from 100 coroutines at the same time", workload="send-async"),
    Promise(what="`delay` of a Celery application that is accelerated", workload="delay-accelerated"),
    Promise(what="a `group` of one", workload="group-accelerated"),
    Promise(what="idle worker, CPU (Redis apart)", workload="idle", measure="core", limit=0.5),
    Promise(
        what="idle worker, from the send to the start of the task, p50", workload="idle", measure="wake-p50", limit=1.0
    ),
    Promise(what="main process, growth over many tasks", workload="flat", measure="growth", limit=5.0),
    Promise(what="main process with many ETA messages waiting", workload="eta", measure="engine", limit=200.0),
    Promise(what="worker with 4 children (PSS)", workload="pss", measure="pss", times=1),
    Promise(what="cold start to the first task", workload="start", measure="first-task", times=1),
    Promise(what="`import fastq`, without redis, celery, asyncio", workload="import", measure="import", limit=60.0),
    Promise(
        what="`from fastq import FastQ`, without them; Celery: `from celery import Celery`",
        workload="import-app",
        measure="import",
        times=1,
    ),
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A promise beside what was measured."""

    promise: Promise
    ours: Measurement
    theirs: Measurement | None
    floor: Measurement | None
    beside: Measurement | None

    def value(self, one: Measurement) -> float:
        """What this row is about."""
        return float(getattr(one.cpu_us, self.promise.role)) if self.promise.role and one.cpu_us else one.median

    @property
    def times(self) -> float | None:
        """How many times as good as Celery we are, or None without Celery's figure."""
        if self.theirs is None or not self.theirs.values or not self.ours.values:
            return None
        ours, theirs = self.value(self.ours), self.value(self.theirs)
        better, worse = (ours, theirs) if self.ours.better == "higher" and not self.promise.role else (theirs, ours)
        return better / worse if worse > 0 and better > 0 else None

    @property
    def share(self) -> float | None:
        """Of what we reach in the workload beside."""
        return self.ours.median / self.beside.median if self.beside is not None and self.beside.values else None

    @property
    def reached(self) -> bool | None:
        """Whether the promise is kept; None if nothing is promised."""
        promise = self.promise
        if promise.times is promise.share is promise.limit is None:
            return None
        if not self.ours.whole:
            return False
        if promise.limit is not None:
            return self.value(self.ours) <= promise.limit
        return (self.times or 0.0) >= promise.times if promise.times else (self.share or 0.0) >= (promise.share or 0.0)


def rows(results: Results) -> list[Row]:
    """The rows whose workload was measured with fastq, failed ones included."""
    return [row for promise in PROMISES if (row := _row(results, promise)) is not None]


def _row(results: Results, promise: Promise) -> Row | None:
    def find(system: str, workload: str) -> Measurement | None:
        return results.find(workload, promise.measure, system) or results.find(workload, "", system)

    ours = find("fastq", promise.workload)
    if ours is None:
        return None
    beside = find("fastq", promise.beside) if promise.beside else None
    others: dict[str, Any] = {"theirs": find("celery", promise.workload), "floor": find("floor", promise.workload)}
    return Row(promise=promise, ours=ours, beside=beside, **others)
