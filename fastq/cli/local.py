"""What the commands that look at workers of this host have in common: which, and how a moment is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fastq.config.nodename import node_name
from fastq.errors import SurroundingsError

if TYPE_CHECKING:
    from fastq.monitor.local import LocalWorker
    from fastq.monitor.snapshot import Child


def node_option() -> click.Option:
    """Look at one node only."""
    return click.Option(
        ["node", "-n", "--hostname"], metavar="<name>", help="Only the worker of this node name, %h and so on included."
    )


def chosen(node: str | None) -> list[LocalWorker]:
    """The workers to look at. Raises SurroundingsError if there are none."""
    from fastq.monitor.local import local_workers  # needs the core; commands that run anywhere import this module, too

    name = None if node is None else node_name(node)
    found = local_workers(name)
    if not found:
        raise SurroundingsError(f"no worker {f'{name} ' if name else ''}runs on this host, or none of this user's")
    return found


def for_people(seconds: float) -> str:
    """0.42s, 12s, 3m20s, 2h05m, 4d03h."""
    if seconds < 10:
        return f"{seconds:.2f}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def doing(child: Child) -> str:
    """What a child does, and which task: "busy: tasks.add[ID] for 0.42s", "busy, 57 in flight, the first: ..."."""
    running = child.running
    many = f", {child.in_flight} in flight, the first" if child.in_flight > 1 else ""
    return (
        f"{child.state}{many}: {running.task}[{running.id}] for {for_people(running.for_s)}" if running else child.state
    )
