"""The command `fastq stacks`: where each busy child is right now, and the engine if it is stuck."""

from __future__ import annotations

import click

from fastq.cli.local import chosen, doing, node_option
from fastq.monitor.snapshot import Child, Snapshot, take
from fastq.monitor.stacks import stacks_of


def _stacks(node: str | None, *, everybody: bool) -> int:
    for worker in chosen(node):
        snapshot = take(worker)
        shown = [child for child in snapshot.children if child.pid and (everybody or child.state == "busy")]
        for title, pid in [*_own(snapshot, everybody=everybody), *((_title(child), child.pid) for child in shown)]:
            click.echo(f"{snapshot.node}: {title}\n{_indented(stacks_of(pid))}\n")
        if not shown:
            click.echo(f"{snapshot.node}: no child is busy")
    return 0


def _own(snapshot: Snapshot, *, everybody: bool) -> list[tuple[str, int]]:
    """The engine and the nursery: where nobody would look, unless the engine is stuck."""
    engine = [(f"engine pid {snapshot.pid}{': ' + snapshot.live if snapshot.live else ''}", snapshot.pid)]
    nursery = snapshot.figures["nursery_pid"]
    if everybody and nursery:
        return [*engine, (f"nursery pid {nursery}", nursery)]
    return engine if snapshot.live else []


def _title(child: Child) -> str:
    return f"child {child.slot + 1} pid {child.pid} {doing(child)}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


command: click.Command = click.Command(
    "stacks",
    callback=_stacks,
    params=[
        node_option(),
        click.Option(["everybody", "--all"], is_flag=True, help="Idle children, nursery and engine as well."),
    ],
    help="Show the Python stacks of the busy children of this host's workers. They are not stopped for it.",
)
