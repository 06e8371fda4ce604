"""What the suite knows of a system: how to start its worker, who sends to it, what it can do, and why it is set so."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from bench.processes import ROOT

#: Where `make bench-full` makes environments: of peers, one each, and of monitoring agents.
HOMES = ROOT / "build"

#: What systems can do beyond taking a task: the method of their client, or the way of working, that a workload needs.
CAN = frozenset(
    {
        "results",  # waiting for a result
        "acks",  # early and late acknowledgement, to choose from
        "nap",  # a task that blocks
        "nap_async",  # a task that waits in a coroutine
        "fill_later",  # countdowns
        "fill_async",  # an asynchronous library to send with
        "urgent",  # priorities
        "chain",
        "group",
        "chord",
        "many_chords",  # chords so large that only a counter makes them possible
        "mixed",  # a fleet together with Celery's workers
    }
)


def able(words: str) -> frozenset[str]:
    """A set of what a system can do, from its words. Raises ValueError for one that is not in the list above."""
    found = frozenset(words.split())
    if unknown := found - CAN:
        raise ValueError(f"no workload knows the ability {', '.join(sorted(unknown))}: see CAN in bench/peers/peer.py")
    return found


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One system with one set of settings."""

    name: str
    #: "tuned": what its documentation recommends for speed; "default": what it does when it is told nothing but the
    #: number of processes.
    settings: str = "tuned"
    #: Why it is set so, with the pages that say so.
    why: str
    #: Folder of its environment in `build`; empty for ours.
    home: str = ""
    #: Package names whose versions are kept with the results.
    packages: tuple[str, ...] = ()
    #: Module of its client, which `bench.peers.client` runs.
    client: str
    #: Arguments of the worker's Python; {app}, {queue} and {children} are filled in.
    worker: tuple[str, ...]
    app: str = "bench.apps.tasks"
    can: frozenset[str] = frozenset()
    #: Tasks that one of its two processes runs at a time.
    slots: int = 1
    #: fastq: a process between the main one and the children.
    nursery: bool = False
    #: Whether each of its processes must get the signal to stop, as a service manager sends it: the main one does not.
    tell_all: bool = False
    #: More for the environment of its worker and its client; {url} and {sink} are filled in.
    variables: Mapping[str, str] = {}
    #: Tasks per second, about: only where measuring starts from. It is found out within the first run.
    guess: int = 1000
    #: Seconds after which it gives back what a dead worker held, and some more, where that is a matter of seconds or of
    #: a minute. 0: longer (visibility timeouts, job timeouts), or never.
    returns_s: float = 0.0
    #: A variation of another system: measured only where a workload asks for variations of this kind (a field of
    #: `bench.workloads.registry.Workload`). Empty: a system of its own.
    variation: str = ""

    @property
    def label(self) -> str:
        """Name and settings."""
        return f"{self.name} ({self.settings})"

    @property
    def python(self) -> Path:
        """The interpreter with this system in it."""
        return HOMES / self.home / "bin" / "python" if self.home else Path(sys.executable)

    @property
    def missing(self) -> str:
        """Why it cannot be measured here; empty if it can."""
        return (
            ""
            if self.python.exists()
            else f"{self.name} is not installed in {self.python.parent}: make bench-full does it"
        )

    def command(self, app: str, *, queue: str, children: int) -> list[str]:
        """The command line of its worker."""
        given = {"app": app or self.app, "queue": queue, "children": str(children), "bin": str(self.python.parent)}
        return [str(self.python), *(each.format(**given) for each in self.worker)]
