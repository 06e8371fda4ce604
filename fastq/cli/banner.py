"""Draw the banner of a worker: what Celery's shows, and what is different here."""

from __future__ import annotations

from collections.abc import Sequence

import fastq
from fastq import log
from fastq.config.settings import WorkerOptions, not_yet_effective
from fastq.config.values import AUTO
from fastq.program import ProgramInfo, QueueInfo, TaskInfo

_HEAD = """\
{node} fastq {version} ({runner})

{platform} {started}

[config]
.> app:         {app}
.> transport:   {transport}
.> results:     {results}
.> concurrency: {concurrency} (prefork, children forked by a nursery)
.> task events: {events}
.> prefetch:    {prefetch}
.> claims:      leased for {lease_s:g} s at a time; a dead worker's go back to their queues after that
"""


def banner(options: WorkerOptions, program: ProgramInfo, *, platform: str, started: str, lease_s: float) -> str:
    """The whole text, without colours. Passwords in URLs are masked. Pure: time and place come from the caller."""
    head = _HEAD.format(
        node=program.node,
        version=fastq.__version__,
        runner=f"celery {program.version}" if program.version else "native",
        platform=platform,
        started=started,
        app=f"{program.app_name} ({program.loader})" if program.loader else program.app_name,
        transport=masked(program.broker_shown),
        results=masked(program.results.shown) or "disabled",
        concurrency=_concurrency(options, program),
        events="ON" if program.events.tasks else "OFF",
        prefetch=_prefetch(program),
        lease_s=lease_s,
    )
    parts = [head, _not_yet(options), _queues(program.queues), _tasks(program)]
    return "\n".join(part for part in parts if part)


def masked(url: str) -> str:
    """The URL, or several with ; between, with ** for each password."""
    return log.without_passwords(url)


def _concurrency(options: WorkerOptions, program: ProgramInfo) -> str:
    """The number of children, or what it follows from."""
    if isinstance(options.autoscale, tuple):
        most, least = options.autoscale
        return f"{{min={least}, max={most}}}"
    if options.autoscale is not None:
        return "as many as there is work, CPU time and memory for"
    auto = options.concurrency == AUTO or (options.concurrency is None and program.concurrency_auto)
    return "what CPUs and memory allow" if auto else str(program.concurrency)


def _prefetch(program: ProgramInfo) -> str:
    """How far ahead of its children this worker claims."""
    if program.disable_prefetch:
        return "off: a message is claimed when a child is free"
    return f"auto (worker_prefetch_multiplier {program.prefetch_multiplier or 'unlimited'})"


def _not_yet(options: WorkerOptions) -> str:
    """Options that were given and do nothing; the log has the reasons."""
    flags = ", ".join(not_yet_effective(options))
    return f"[not yet effective]\n.> {flags}\n" if flags else ""


def _queues(queues: Sequence[QueueInfo]) -> str:
    lines = [
        f".> {queue.name:<16} exchange={queue.exchange}({queue.exchange_type}) key={queue.routing_key}"
        for queue in sorted(queues, key=lambda queue: queue.name)
    ]
    return "\n".join(["[queues]", *lines, ""])


def _tasks(program: ProgramInfo) -> str:
    """The application's tasks from INFO down, Celery's own also at DEBUG."""
    if program.loglevel > log.LEVELS["INFO"]:
        return ""
    names = [task.name for task in program.tasks if _is_shown(task, level=program.loglevel)]
    return "\n".join(["[tasks]", *(f"  . {name}" for name in sorted(names)), ""])


def _is_shown(task: TaskInfo, *, level: int) -> bool:
    return level <= log.LEVELS["DEBUG"] or not task.name.startswith("celery.")
