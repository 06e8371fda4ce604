"""Every command by its name, and by the older names that Celery still knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastq.worker.cluster.commands import changes, events, tasks, worker

_COMMANDS: tuple[Callable[..., Any], ...] = (
    # inspect: tasks
    tasks.active,
    tasks.reserved,
    tasks.scheduled,
    tasks.query_task,
    tasks.revoked,
    tasks.registered,
    # inspect: the worker
    worker.ping,
    worker.clock,
    worker.hello,
    worker.conf,
    worker.report,
    worker.stats,
    worker.active_queues,
    worker.memsample,
    worker.memdump,
    worker.objgraph,
    # control
    changes.shutdown,
    changes.pool_grow,
    changes.pool_shrink,
    changes.pool_restart,
    changes.autoscale,
    changes.add_consumer,
    changes.cancel_consumer,
    changes.rate_limit,
    changes.time_limit,
    changes.revoke,
    changes.revoke_by_stamped_headers,
    changes.terminate,
    events.enable_events,
    events.disable_events,
    events.heartbeat,
    events.election,
)

COMMANDS: Mapping[str, Callable[..., Any]] = {
    **{command.__name__: command for command in _COMMANDS},
    "dump_active": tasks.active,
    "dump_reserved": tasks.reserved,
    "dump_schedule": tasks.scheduled,
    "dump_revoked": tasks.revoked,
    "dump_tasks": tasks.registered,
    "dump_conf": worker.conf,
}
