"""Tell the engine what a native application is: queues, tasks, limits, addresses, as plain values."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

import fastq
from fastq import log
from fastq._core import MOST_IN_FLIGHT
from fastq.app.app import FastQ
from fastq.app.routes import queues_of
from fastq.app.running.execute import choose
from fastq.app.task import BaseTask
from fastq.config.settings import WorkerOptions
from fastq.errors import SettingError
from fastq.program import ControlInfo, EventsInfo, ProgramInfo, QueueInfo, ResultInfo, TaskInfo
from fastq.transport.urls import read_urls

#: Options that only mean something to a Celery application.
_CELERYS = ("loader", "config", "scheduler", "schedule", "statedb")
_INSTEAD = {
    "statedb": ": what `handle.cancel()` has cancelled stays so over restarts, and what `control revoke` has does not",
}


def describe(app: FastQ, options: WorkerOptions, *, node: str, numbered: Sequence[str] = ()) -> ProgramInfo:
    """Everything the engine may know. The tasks of these names keep their numbers. Raises SettingError."""
    conf = app.conf
    concurrency = options.concurrency or conf.worker_concurrency
    return ProgramInfo(
        app_name=app.name,
        loader="",
        node=node,
        broker_urls=conf.broker_url.split(";"),
        broker_shown=_shown(conf.broker_url, setting="broker_url"),
        transport_options=conf.broker_transport_options,
        broker_use_ssl=conf.broker_use_ssl,
        broker_connection_max_retries=conf.broker_connection_max_retries,
        broker_connection_timeout_s=conf.broker_connection_timeout,
        queues=queues(app, options),
        declared=[_queue(name) for name in _declared(app)],
        tasks=tasks(app, options, numbered=numbered),
        results=_results(app),
        control=ControlInfo(
            enabled=conf.worker_enable_remote_control,
            exchange=conf.control_exchange,
            timeout_s=options.control_timeout,
        ),
        concurrency=concurrency if isinstance(concurrency, int) else len(os.sched_getaffinity(0)),
        concurrency_auto=concurrency == "auto",
        coroutines=_coroutines(app, options),
        prefetch_multiplier=options.prefetch_multiplier or conf.worker_prefetch_multiplier,
        disable_prefetch=bool(options.disable_prefetch),
        max_tasks_per_child=options.max_tasks_per_child or conf.worker_max_tasks_per_child,
        max_memory_per_child_kib=options.max_memory_per_child or conf.worker_max_memory_per_child,
        soft_time_limit=options.soft_time_limit or conf.task_soft_time_limit,
        time_limit=options.time_limit or conf.task_time_limit,
        log_format=conf.worker_log_format or log.WORKER_FORMAT,
        task_log_format=conf.worker_task_log_format or log.TASK_FORMAT,
        loglevel=log.level_number(options.loglevel),
        logfile=options.logfile,
        enable_utc=conf.enable_utc,
        timezone=conf.timezone,
        local_zone=os.environ.get("TZ", ""),
        events=_events(app, options),
        slots=[name for name, task in app.tasks.items() if task.options.max_running is not None],
        beat=bool(app.entries()) and not options.without_schedule,
        warnings=_warnings(app, options),
    )


def _warnings(app: FastQ, options: WorkerOptions) -> list[str]:
    found = [
        f"option {options.given[name]} means nothing to a native application{_INSTEAD.get(name, '')}"
        for name in _ignored(options)
    ]
    foreign = [entry for entry in app.entries().values() if entry.task not in app.tasks]
    return found + [f"entry {entry.name!r} of the schedule is for {entry.task!r}, no task here" for entry in foreign]


def _coroutines(app: FastQ, options: WorkerOptions) -> int:
    """How many tasks a child may have in flight; 0 if there are only functions."""
    if not app.has_coroutines:
        return 0
    found = options.coroutines or app.conf.worker_coroutines
    if not 1 <= found <= MOST_IN_FLIGHT:
        raise SettingError(
            f"a child can have 1 to {MOST_IN_FLIGHT} coroutines in flight, not {found}: "
            "change --coroutines or worker_coroutines; more children are --concurrency"
        )
    return found


def _ignored(options: WorkerOptions) -> list[str]:
    return [name for name in _CELERYS if name in options.given and getattr(options, name)]


# ---------------------------------------------------------------------------- queues and tasks


def queues(app: FastQ, options: WorkerOptions) -> list[QueueInfo]:
    """The queues to consume, after -Q and -X. Raises SettingError if none is left."""
    names = list(options.queues) or app.conf.task_queues or _declared(app)
    left = [name for name in names if name not in options.exclude_queues]
    if not left:
        raise SettingError(f"no queue is left to consume: of {', '.join(names)}, -X excludes all")
    return [_queue(name) for name in left]


def _declared(app: FastQ) -> list[str]:
    """Every queue that the application speaks of: its default queue first."""
    own = [task.options.queue for task in app.tasks.values()]
    names = [app.conf.default_queue, *app.conf.task_queues, *queues_of(app.conf.task_routes), *own]
    return list(dict.fromkeys(name for name in names if name))


def _queue(name: str) -> QueueInfo:
    return QueueInfo(name=name, exchange=name, routing_key=name)


def tasks(app: FastQ, options: WorkerOptions, *, numbered: Sequence[str] = ()) -> list[TaskInfo]:
    """All registered tasks; the order is their numbering."""
    names = [*numbered, *sorted(set(app.tasks) - set(numbered))]
    return [_task(name, app.tasks.get(name), app, options) for name in names]


def _task(name: str, task: BaseTask[Any, Any] | None, app: FastQ, options: WorkerOptions) -> TaskInfo:
    if task is None:
        return TaskInfo(name=name, gone=True)
    own, conf = task.options, app.conf
    late = choose(own.acks_late, conf.task_acks_late)
    acks_failure = choose(own.acks_on_failure_or_timeout, conf.task_acks_on_failure_or_timeout)
    return TaskInfo(
        name=name,
        acks_late=late,
        ignore_result=choose(own.ignore_result, conf.task_ignore_result) or not conf.result_backend,
        returns_if_lost=late and choose(own.reject_on_worker_lost, conf.task_reject_on_worker_lost),
        returns_if_late=late and not acks_failure,
        soft_time_limit=own.soft_time_limit or options.soft_time_limit or conf.task_soft_time_limit,
        time_limit=own.time_limit or options.time_limit or conf.task_time_limit,
        rate_limit=own.rate_limit or conf.task_default_rate_limit,
        send_events=own.send_events,
    )


# ---------------------------------------------------------------------------- addresses and monitors


def _shown(url: str, *, setting: str) -> str:
    return ";".join(address.masked() for address in read_urls(url, setting=setting))


def _results(app: FastQ) -> ResultInfo:
    conf = app.conf
    if not conf.result_backend:
        return ResultInfo(kind="disabled", shown="disabled://")
    return ResultInfo(
        kind="redis",
        url=conf.result_backend,
        shown=_shown(conf.result_backend, setting="result_backend"),
        transport_options=conf.result_backend_transport_options,
    )


def _events(app: FastQ, options: WorkerOptions) -> EventsInfo:
    given = options.task_events
    return EventsInfo(
        tasks=app.conf.worker_send_task_events if given is None else given,
        heartbeat_s=None if options.without_heartbeat else float(options.heartbeat_interval or 2),
        gossip=not options.without_gossip,
        mingle=not options.without_mingle,
        timezone=app.conf.timezone,
        software={"sw_ident": "fastq", "sw_ver": fastq.__version__, "sw_sys": platform.system()},
    )
