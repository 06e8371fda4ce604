"""The commands `fastq status` and `fastq metrics`: what the workers of this host are doing, once."""

from __future__ import annotations

import platform

import click
import msgspec

import fastq
from fastq import clock
from fastq.cli.local import chosen, doing, for_people, node_option
from fastq.monitor import openmetrics
from fastq.monitor.memory import Memory
from fastq.monitor.snapshot import Snapshot, take
from fastq.monitor.status import status as as_values

#: Seconds between the two looks that rates are made from.
BETWEEN_S = 0.5


def _status(node: str | None, *, as_json: bool) -> int:
    workers = chosen(node)
    before = [take(worker) for worker in workers]
    clock.sleep(BETWEEN_S)
    after = [take(worker) for worker in workers]
    if as_json:
        found = [as_values(each, version=fastq.__version__, memory=_memory(each)) for each in after]
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        pairs = zip(before, after, strict=True)
        click.echo("\n".join(describe(then, now, memory=_memory(now)) for then, now in pairs))
    return 0


def _memory(snapshot: Snapshot) -> dict[int, int]:
    return Memory().of(child.pid for child in snapshot.children if child.pid)


def describe(before: Snapshot, now: Snapshot, *, memory: dict[int, int]) -> str:
    """One worker as text."""
    state = now.live or (now.state if now.ready else "ready")
    why = f" ({now.ready})" if now.ready and not now.live and now.state == "running" else ""
    lines = [
        f"{now.node}: {state}{why}, pid {now.pid}, up {for_people(now.uptime_s)}",
        f"  {rate(before, now):,.0f} tasks/s; holds {now.figures['held']:,}, of which "
        f"{now.figures['pending']:,} wait for a child and {now.figures['waiting']:,} for their time",
    ]
    lines += [f"  {line}" for line in _children(now, memory)]
    lines += [
        f"  queue {queue.queue}: {queue.length:,} waiting, {queue.claimed:,} claimed, {queue.settled:,} done"
        for queue in now.queues
    ]
    if waiting := [f"{count:,} of {task}" for task, count in now.for_slot.items() if count]:
        lines.append(f"  on the broker wait for a slot (max_running; see fastq queues): {', '.join(waiting)}")
    return "\n".join(lines)


def rate(before: Snapshot, now: Snapshot) -> float:
    """Tasks that ended in a second, between two looks."""
    done = sum(runs.executed for runs in now.tasks) - sum(runs.executed for runs in before.tasks)
    return max(0.0, done / max(1e-3, now.at - before.at))


def _children(now: Snapshot, memory: dict[int, int]) -> list[str]:
    lines = []
    for child in now.children:
        size = memory.get(child.pid)
        what = f", {size >> 20} MiB" if size is not None else ""
        lines.append(f"child {child.slot + 1} pid {child.pid} {doing(child)} ({child.executed:,} run{what})")
    return lines


def _metrics(node: str | None) -> int:
    for worker in chosen(node):
        snapshot = take(worker)
        pids = [snapshot.pid, snapshot.figures["nursery_pid"], *(child.pid for child in snapshot.children)]
        text = openmetrics.render(
            snapshot,
            version=fastq.__version__,
            python=platform.python_version(),
            memory=Memory().of(pid for pid in pids if pid),
        )
        click.echo(text, nl=False)
    return 0


command: click.Command = click.Command(
    "status",
    callback=_status,
    params=[node_option(), click.Option(["as_json", "--json"], is_flag=True, help="As JSON, like /status.json.")],
    help="Show what the workers of this host are doing: children, running tasks, rates, queues.",
)

metrics: click.Command = click.Command(
    "metrics",
    callback=_metrics,
    params=[node_option()],
    help="Print the metrics of this host's worker as OpenMetrics text, as /metrics serves them.",
)
