"""Write a snapshot as OpenMetrics text. Pure: what comes in decides what goes out.

Names and labels are a promise to dashboards: docs/operate/probes-and-metrics.md lists them, and a test compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from fastq import _core
from fastq.monitor.snapshot import Snapshot

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Labels = Mapping[str, str]
Sample = tuple[str, Labels, float]


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """One metric: samples are (suffix, labels, value)."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    help: str
    samples: Sequence[Sample]
    unit: str = ""


def render(snapshot: Snapshot, *, version: str, python: str, memory: Mapping[int, int]) -> str:
    """The whole page. `memory`: bytes by process id."""
    lines: list[str] = []
    for family in families(snapshot, version=version, python=python, memory=memory):
        lines += _lines(family)
    return "\n".join([*lines, "# EOF", ""])


def families(snapshot: Snapshot, *, version: str, python: str, memory: Mapping[int, int]) -> list[Family]:
    """Every metric, in the order of the page."""
    return [
        *_worker(snapshot, version=version, python=python),
        *_tasks(snapshot),
        *_queues(snapshot),
        *_children(snapshot, memory),
        *_held(snapshot),
        *_redis(snapshot),
    ]


def _worker(s: Snapshot, *, version: str, python: str) -> Iterable[Family]:
    labels = {"version": version, "python": python, "node": s.node, "worker": s.worker}
    yield _family("fastq_build", "info", "What runs here.", [("_info", labels, 1)])
    yield _gauge("fastq_up", "1 while the engine's loop goes round.", not s.live)
    yield _gauge("fastq_ready", "1 while this worker takes messages: what /readyz says.", not s.ready)
    states = [("", {"state": state}, float(s.state == state)) for state in _core.STATES]
    yield _family("fastq_state", "gauge", "1 for the state that the worker is in.", states)
    yield _gauge("fastq_uptime_seconds", "Since the engine began.", s.uptime_s, unit="seconds")
    yield _gauge("fastq_loop_silent_seconds", "Since the loop went round; at most about one.", s.silent_s, "seconds")
    yield _counter("fastq_loop_turns", "Turns of the engine's loop.", s.figures["turns"])


def _tasks(s: Snapshot) -> Iterable[Family]:
    ends = [
        ("_total", {"task": runs.task, "end": end}, float(count))
        for runs in s.tasks
        for end, count in {**runs.ends, **runs.verdicts}.items()
        if count
    ]
    yield _family("fastq_tasks", "counter", "Messages of tasks by the way in which they ended, each once.", ends)
    runtime = [
        sample
        for runs in s.tasks
        if runs.executed
        for sample in _histogram({"task": runs.task}, _core.RUN_STEPS_S, runs.steps, runs.executed, runs.spent_s)
    ]
    help_text = "From the start of a task to its end in the child, arguments and result included."
    yield _family("fastq_task_run_seconds", "histogram", help_text, runtime, unit="seconds")
    waits = [("", {"task": task}, float(count)) for task, count in s.for_slot.items()]
    help_text = "Messages that wait on the broker for a slot of their task (max_running), on all workers together."
    yield _family("fastq_tasks_waiting_for_slot", "gauge", help_text, waits)


def _queues(s: Snapshot) -> Iterable[Family]:
    for name, help_text, field in (
        ("fastq_queue_claimed", "Messages taken from a queue.", "claimed"),
        ("fastq_queue_started", "Of those, started.", "started"),
        ("fastq_queue_settled", "Of those, done with: acknowledged, returned or requeued.", "settled"),
    ):
        samples = [("_total", {"queue": queue.queue}, float(getattr(queue, field))) for queue in s.queues]
        yield _family(name, "counter", help_text, samples)
    lengths = [("", {"queue": queue.queue}, float(queue.length)) for queue in s.queues if queue.looked_s is not None]
    yield _family("fastq_queue_length", "gauge", "Messages that wait in a queue, when it was last looked at.", lengths)
    ages = [("", {"queue": queue.queue}, queue.looked_s) for queue in s.queues if queue.looked_s is not None]
    yield _family("fastq_queue_length_age_seconds", "gauge", "Since that look.", ages, unit="seconds")
    waits = [
        sample
        for queue in s.queues
        for sample in _histogram({"queue": queue.queue}, _core.WAIT_STEPS_S, queue.steps, queue.started, queue.waited_s)
    ]
    help_text = "From the claim of a message (or when it was due) to its start."
    yield _family("fastq_queue_wait_seconds", "histogram", help_text, waits, unit="seconds")


#: How children end, by figure and label.
_CAUSES = {
    "ends_agreed": "recycled",
    "ends_dismissed": "dismissed",
    "ends_signal": "signal",
    "ends_exit": "exit",
    "ends_starting": "start",
    "ends_limit": "time_limit",
    "ends_stopped": "killed",
}


def _children(s: Snapshot, memory: Mapping[int, int]) -> Iterable[Family]:
    doing = [
        ("", {"state": state}, float(sum(child.state == state for child in s.children)))
        for state in ("idle", "busy", "starting", "leaving")
    ]
    yield _family("fastq_children", "gauge", "Children by what they do.", doing)
    yield _gauge("fastq_children_wanted", "How many children there are to be.", s.figures["children_wanted"])
    yield _counter("fastq_child_forks", "Children forked.", s.figures["forks"])
    causes = [("_total", {"cause": cause}, float(s.figures[figure])) for figure, cause in _CAUSES.items()]
    yield _family("fastq_child_ends", "counter", "Children that ended, by cause.", causes)
    yield _counter("fastq_nurseries", "Nurseries started.", s.figures["nurseries"])
    longest = max((child.running.for_s for child in s.children if child.running), default=0.0)
    yield _gauge("fastq_longest_running_seconds", "What runs longest now has run so long.", longest, "seconds")
    roles = {s.pid: ("engine", ""), s.figures["nursery_pid"]: ("nursery", "")}
    roles |= {child.pid: ("child", str(child.slot + 1)) for child in s.children if child.pid}
    sizes = [
        ("", {"process": roles[pid][0], "slot": roles[pid][1]}, float(size))
        for pid, size in memory.items()
        if pid in roles
    ]
    yield _family("fastq_memory_bytes", "gauge", "Proportional set size of each process.", sizes, unit="bytes")


def _held(s: Snapshot) -> Iterable[Family]:
    figures = s.figures
    yield _gauge("fastq_held", "Messages claimed and not settled, waiting ones included.", figures["held"])
    yield _gauge("fastq_waiting", "Of those, waiting for their time.", figures["waiting"])
    yield _gauge("fastq_pending", "Of those, waiting for a child.", figures["pending"])
    yield _gauge("fastq_unstarted", "Of those, dealt to a child and not started.", figures["unstarted"])
    yield _counter("fastq_recalled", "Messages taken back from a child before they were started.", figures["recalled"])
    yield _counter("fastq_restored", "Messages of dead workers put back on their queues.", figures["restored"])
    yield _counter("fastq_reloads", "Times the application was loaded again.", figures["reloads"])
    help_text = "Times the application could not be loaded again."
    yield _counter("fastq_reloads_failed", help_text, figures["reloads_failed"])
    help_text = "Results that wait for the result store."
    yield _gauge("fastq_result_backlog_bytes", help_text, figures["result_backlog_bytes"], "bytes")


def _redis(s: Snapshot) -> Iterable[Family]:
    figures = s.figures
    yield _gauge("fastq_broker_up", "1 while the connections to the broker are there.", figures["broker_up"])
    age_s = max(0.0, figures["turn_ns"] - figures["lease_ns"]) / 1e9 if figures["lease_ns"] else 0.0
    yield _gauge("fastq_lease_age_seconds", "Since the broker confirmed a heartbeat.", age_s, "seconds")
    yield _counter("fastq_broker_reconnects", "Times that the broker's connections came back.", figures["reconnects"])
    yield _summary("fastq_claim_round_trip", "Claims, and the time until their answer.", figures, "round_trip")
    yield _counter("fastq_flushes", "Flushes of results and acknowledgements.", figures["flushes"])
    yield _counter("fastq_flush_seconds", "Time until their answer.", figures["flush_ns"] / 1e9, "seconds")
    yield _counter("fastq_flushed_bytes", "Bytes of those.", figures["flushed_bytes"], "bytes")


def _summary(name: str, help_text: str, figures: Mapping[str, int], figure: str) -> Family:
    # A histogram with one step: count and sum, which is what rates are made from.
    count, total_s = figures[f"{figure}s"], figures[f"{figure}_ns"] / 1e9
    samples: list[Sample] = [
        ("_bucket", {"le": "+Inf"}, float(count)),
        ("_count", {}, float(count)),
        ("_sum", {}, total_s),
    ]
    return _family(f"{name}_seconds", "histogram", help_text, samples, unit="seconds")


def _histogram(
    labels: Labels, steps_s: Sequence[float], steps: Sequence[int], count: int, sum_s: float
) -> Iterable[Sample]:
    below = 0
    for upper_s, n in zip(steps_s, steps, strict=True):
        below += n
        yield "_bucket", {**labels, "le": repr(upper_s)}, float(min(below, count))
    yield "_bucket", {**labels, "le": "+Inf"}, float(count)
    yield "_count", labels, float(count)
    yield "_sum", labels, sum_s


def _gauge(name: str, help_text: str, value: float, unit: str = "") -> Family:
    return _family(name, "gauge", help_text, [("", {}, float(value))], unit=unit)


def _counter(name: str, help_text: str, value: float, unit: str = "") -> Family:
    return _family(name, "counter", help_text, [("_total", {}, float(value))], unit=unit)


def _family(
    name: str,
    kind: Literal["counter", "gauge", "histogram", "info"],
    help_text: str,
    samples: Sequence[Sample],
    unit: str = "",
) -> Family:
    return Family(name=name, kind=kind, help=help_text, samples=samples, unit=unit)


def _lines(family: Family) -> list[str]:
    head = [f"# TYPE {family.name} {family.kind}"]
    head += [f"# UNIT {family.name} {family.unit}"] if family.unit else []
    head += [f"# HELP {family.name} {_escaped(family.help)}"]
    for suffix, labels, value in family.samples:
        head.append(f"{family.name}{suffix}{_labels(labels)} {_number(value)}")
    return head


def _labels(labels: Labels) -> str:
    text = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{text}}}" if text else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
