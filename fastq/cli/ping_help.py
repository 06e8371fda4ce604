"""`fastq ping` as a command among others: for its help, and for whoever has options of the program before it."""

from __future__ import annotations

import click

from fastq.cli.ping import ping


def _ping(node: str | None, *, ready: bool, quiet: bool) -> int:
    named = ["-n", node] if node else []
    return ping([*named, *(["--ready"] if ready else []), *(["-q"] if quiet else [])])


command: click.Command = click.Command(
    "ping",
    callback=_ping,
    params=[
        click.Option(
            ["node", "-n", "--hostname"], metavar="<name>", help="The worker's node name, %h and so on included."
        ),
        click.Option(
            ["--ready"], is_flag=True, help="Ask for readiness: broker connected, children there, not stopping."
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="Say nothing."),
    ],
    help="Exit with 0 if the workers of this host are alive, with 1 if one is stuck or there is none. For probes: it "
    "imports no application, and asks neither the worker nor the broker.",
)
