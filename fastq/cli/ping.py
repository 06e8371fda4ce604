"""The command `fastq ping`: is the worker of this host alive? For probes, so it imports next to nothing.

It reads shared memory, and asks neither worker nor broker: a worker whose children are all busy answers, one whose loop
is stuck does not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from fastq.monitor.local import LocalWorker, local_workers

USAGE = "usage: fastq ping [-n NODE] [--ready] [-q]"

OK, NOT, WRONG = 0, 1, 2


def ping(arguments: Sequence[str]) -> int:
    """0: alive (with --ready: all of them take messages); 1: not; 2: the arguments are wrong."""
    node, ready, quiet = None, False, False
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word in ("-n", "--hostname") and rest:
            node = rest.pop(0)
        elif word.startswith("--hostname="):
            node = word.partition("=")[2]
        elif word == "--ready":
            ready = True
        elif word in ("-q", "--quiet"):
            quiet = True
        else:
            print(f"fastq ping: {word!r} is no option of it; {USAGE}", file=sys.stderr)
            return WRONG
    return _report(_named(node), ready=ready, quiet=quiet)


def _named(node: str | None) -> str | None:
    if node is None or ("%" not in node and "@" in node):
        return node
    if node.count("%") == node.count("%h"):
        name, at, host = node.partition("@")
        return f"{name if at else 'celery'}@{host if at else name}".replace("%h", os.uname().nodename)
    from fastq.config.nodename import node_name  # takes its time

    return node_name(node)


def _report(node: str | None, *, ready: bool, quiet: bool) -> int:
    workers = local_workers(node)
    lines = [(_what_is_wrong(worker, ready=ready), worker) for worker in workers]
    if not quiet:
        for wrong, worker in lines:
            print(f"{worker.node}: {wrong or 'OK'}")
        if not workers:
            print(f"fastq ping: no worker {f'{node} ' if node else ''}runs here", file=sys.stderr)
    return NOT if not workers or any(wrong for wrong, _ in lines) else OK


def _what_is_wrong(worker: LocalWorker, *, ready: bool) -> str:
    return worker.why_not_ready() if ready else worker.why_not_live()
