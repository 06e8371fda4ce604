"""Draw the banner of a worker: what Celery's shows, and what is different here."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from fastq import log
from fastq.config.settings import WorkerOptions, not_yet_effective
from fastq.config.sources import choose

#: The password of a URL, between the user's name and the host.
_PASSWORD = re.compile(r"(?P<before>\w://[^/@:?#]*:)[^@/?#]+(?P<after>@)")

_HEAD = """\
{node} fastq {version} ({celery})

{platform} {started}

[config]
.> app:         {app}
.> transport:   {transport}
.> results:     {results}
.> concurrency: {concurrency}
.> task events: {events}
.> prefetch:    {prefetch}
.> claims:      {claims}
"""


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """A queue that is consumed, as the application binds it."""

    name: str
    exchange: str
    exchange_type: str = "direct"
    routing_key: str


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known once the application is loaded. Times and places come from outside: the banner itself is pure."""

    version: str
    #: Celery's version; empty without Celery.
    celery: str = ""
    node: str
    app: str
    loader: str = ""
    transport: str
    results: str = ""
    concurrency: int
    prefetch_multiplier: int = 0
    lease_s: float
    task_events: bool = False
    queues: Sequence[Queue] = ()
    tasks: Sequence[str] = ()
    platform: str
    started: str


def banner(options: WorkerOptions, facts: Facts) -> str:
    """The whole text, without colours. Passwords in URLs are masked."""
    parts = [_head(facts), _not_yet(options), _queues(facts.queues), _tasks(options, facts.tasks)]
    return "\n".join(part for part in parts if part)


def masked(url: str) -> str:
    """The URL, or several with ; between, with ** for each password."""
    return _PASSWORD.sub(r"\g<before>**\g<after>", url)


def _head(facts: Facts) -> str:
    return _HEAD.format(
        node=facts.node,
        version=facts.version,
        celery=f"celery {facts.celery}" if facts.celery else "native",
        platform=facts.platform,
        started=facts.started,
        app=f"{facts.app} ({facts.loader})" if facts.loader else facts.app,
        transport=masked(facts.transport),
        results=masked(facts.results) or "disabled",
        concurrency=f"{facts.concurrency} (prefork, children forked by a nursery)",
        events="ON" if facts.task_events else "OFF",
        prefetch=_prefetch(facts.prefetch_multiplier),
        claims=f"leased for {facts.lease_s:g} s at a time; a dead worker's go back to their queues after that",
    )


def _prefetch(multiplier: int) -> str:
    return f"{multiplier} for each child" if multiplier else "auto"


def _not_yet(options: WorkerOptions) -> str:
    """Options that were given and do nothing; the log has the reasons."""
    flags = ", ".join(not_yet_effective(options))
    return f"[not yet effective]\n.> {flags}\n" if flags else ""


def _queues(queues: Sequence[Queue]) -> str:
    lines = [
        f".> {queue.name:<16} exchange={queue.exchange}({queue.exchange_type}) key={queue.routing_key}"
        for queue in sorted(queues, key=lambda queue: queue.name)
    ]
    return "\n".join(["[queues]", *lines, ""])


def _tasks(options: WorkerOptions, tasks: Sequence[str]) -> str:
    """The application's tasks from INFO down, Celery's own also at DEBUG."""
    level = log.level_number(choose(options, "loglevel").value)
    if level > log.LEVELS["INFO"]:
        return ""
    own = [name for name in sorted(tasks) if level <= log.LEVELS["DEBUG"] or not name.startswith("celery.")]
    return "\n".join(["[tasks]", *(f"  . {name}" for name in own), ""])
