"""The command `fastq top`: the workers of this host, again every second."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from fastq import clock
from fastq.cli.local import chosen, for_people, node_option
from fastq.cli.status import rate
from fastq.monitor.local import LocalWorker
from fastq.monitor.snapshot import Snapshot, take

#: Lines of the table of tasks.
TASKS = 15

Pair = tuple[Snapshot, Snapshot]
Row = tuple[str, ...]


def _top(node: str | None, every: float, *, once: bool) -> int:
    try:
        _show(_looks(node, 0.5 if once else every), once=once)
    except KeyboardInterrupt:
        pass
    return 0


def _looks(node: str | None, every_s: float) -> Iterator[list[Pair]]:
    """What was and what is, of all workers, again and again."""
    before: dict[str, Snapshot] = {}
    while True:
        now = {worker.name: take(worker) for worker in _living(node, first=not before)}
        if before:
            yield [(before[name], snapshot) for name, snapshot in now.items() if name in before]
        before = now
        clock.sleep(every_s)


def _living(node: str | None, *, first: bool) -> list[LocalWorker]:
    from fastq.config.nodename import node_name
    from fastq.monitor.local import local_workers

    # Once it shows something, workers may come and go.
    return chosen(node) if first else local_workers(None if node is None else node_name(node))


def _show(looks: Iterator[list[Pair]], *, once: bool) -> None:
    rich = None if once or not sys.stdout.isatty() else _rich()
    if rich is not None:
        rich(looks)
        return
    for pairs in looks:
        click.echo("\n\n".join(_text(table) for table in tables(pairs)))
        if once:
            return
        click.echo()


def tables(pairs: list[Pair]) -> list[list[Row]]:
    """Workers, children, tasks, queues; the first row of each is its head."""
    return [_workers(pairs), _children(pairs), _tasks(pairs), _queues(pairs)]


def _workers(pairs: list[Pair]) -> list[Row]:
    rows: list[Row] = [("worker", "state", "up", "tasks/s", "children", "busy", "holds", "waiting", "redis")]
    for before, now in pairs:
        rows.append(
            (
                now.node,
                "STUCK" if now.live else now.state if now.ready else "ready",
                for_people(now.uptime_s),
                f"{rate(before, now):,.0f}",
                str(len(now.children)),
                str(sum(child.state == "busy" for child in now.children)),
                f"{now.figures['held']:,}",
                f"{now.figures['waiting']:,}",
                "up" if now.figures["broker_up"] else "DOWN",
            )
        )
    return rows


def _children(pairs: list[Pair]) -> list[Row]:
    rows: list[Row] = [("child", "pid", "state", "for", "task", "id", "run")]
    for _before, now in pairs:
        for child in now.children:
            running = child.running
            what = (for_people(running.for_s), running.task, running.id) if running else ("", "", "")
            name = f"{now.node}/{child.slot + 1}"
            state = f"{child.state} {child.in_flight}" if child.in_flight else child.state
            rows.append((name, str(child.pid), state, *what, f"{child.executed:,}"))
    return rows


def _tasks(pairs: list[Pair]) -> list[Row]:
    rows: list[tuple[float, Row]] = []
    for before, now in pairs:
        then = {runs.task: runs.executed for runs in before.tasks}
        for runs in now.tasks:
            a_second = (runs.executed - then.get(runs.task, 0)) / max(1e-3, now.at - before.at)
            mean = for_people(runs.spent_s / runs.executed) if runs.executed else ""
            counts = (runs.executed, runs.ends["failed"], runs.ends["retried"], runs.verdicts["lost"])
            rows.append((a_second, (runs.task, f"{a_second:,.0f}", mean, *(f"{count:,}" for count in counts))))
    rows.sort(key=lambda row: (-row[0], row[1]))
    return [("task", "tasks/s", "mean", "run", "failed", "retried", "lost"), *(row for _, row in rows[:TASKS])]


def _queues(pairs: list[Pair]) -> list[Row]:
    rows: list[Row] = [("queue", "length", "seen", "claimed", "done", "mean wait")]
    for _before, now in pairs:
        for queue in now.queues:
            seen = "" if queue.looked_s is None else f"{for_people(queue.looked_s)} ago"
            mean = for_people(queue.waited_s / queue.started) if queue.started else ""
            rows.append((queue.queue, f"{queue.length:,}", seen, f"{queue.claimed:,}", f"{queue.settled:,}", mean))
    return rows


def _text(table: list[Row]) -> str:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )


def _rich() -> Any:
    """What draws in place, where rich is installed."""
    try:
        from rich.console import Group
        from rich.live import Live
        from rich.table import Table
    except ImportError:
        return None

    def draw(looks: Iterator[list[Pair]]) -> None:
        with Live(screen=True, auto_refresh=False) as live:
            for pairs in looks:
                live.update(Group(*(_rich_table(Table, table) for table in tables(pairs))), refresh=True)

    return draw


def _rich_table(make: Any, table: list[Row]) -> Any:
    drawn = make(box=None, pad_edge=False, header_style="bold")
    for head in table[0]:
        drawn.add_column(head, no_wrap=True)
    for row in table[1:]:
        drawn.add_row(*row)
    return drawn


command: click.Command = click.Command(
    "top",
    callback=_top,
    params=[
        node_option(),
        click.Option(["every", "-d", "--every"], type=click.FloatRange(min=0.1), default=1.0, metavar="<seconds>"),
        click.Option(["--once"], is_flag=True, help="Show it once, as text."),
    ],
    help="Show workers, children, tasks and queues of this host, again and again. With fastq[top] it draws in place.",
)
