"""Tell the engine what an application is: queues, tasks, limits, addresses, as plain values."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import msgspec

from fastq.compat.celery.results import goes_through_ring
from fastq.compat.celery.settle import Settled
from fastq.compat.celery.statedb import read
from fastq.compat.celery.worker import warnings_about
from fastq.errors import SettingError
from fastq.program import ControlInfo, EventsInfo, ProgramInfo, QueueInfo, ResultInfo, TaskInfo


def describe(app: Any, worker: Any, *, settled: Settled, numbered: Sequence[str] = ()) -> ProgramInfo:
    """Everything the engine may know. The tasks of these names keep their numbers."""
    return ProgramInfo(
        app_name=f"{app.main or '__main__'}:{id(app):#x}",
        loader=_loader(app),
        node=str(worker.hostname),
        version=_version(),
        queues=queues(app),
        state_db=worker.statedb or None,
        revoked=read(worker.statedb) if worker.statedb else [],
        declared=[_queue(queue) for queue in app.amqp.queues.values()],
        tasks=tasks(app, worker, numbered=numbered),
        results=results(app),
        control=control(app, timeout_s=settled.control_timeout_s),
        warnings=warnings_about(app, worker),
        events=events(app, worker),
        concurrency=int(worker.concurrency),
        beat=bool(worker.options.get("beat")),
        heartbeat_signal_s=_heartbeat_signal(worker),
        concurrency_auto=str(app.conf.get("worker_concurrency")).lower() == "auto",
        identity=settled.identity,
        umask=settled.umask,
        pidfile=settled.pidfile,
        local_zone=os.environ.get("TZ", ""),
        **_broker(app),
        **_limits(app, worker),
        **_logging(worker, app),
    )


def _heartbeat_signal(worker: Any) -> float | None:
    """As Celery's heart decides: receivers that are connected later are not heard of."""
    from celery.signals import heartbeat_sent

    if not heartbeat_sent.receivers or worker.options.get("without_heartbeat"):
        return None
    return float(worker.options.get("heartbeat_interval") or 2.0)


def _version() -> str:
    from celery import VERSION_BANNER

    return str(VERSION_BANNER)


def _loader(app: Any) -> str:
    from celery.loaders.app import AppLoader
    from celery.utils.imports import qualname

    if isinstance(app.loader, AppLoader):
        return ""
    name = str(qualname(app.loader))
    return name.removeprefix("celery.loaders.")


def queues(app: Any) -> list[QueueInfo]:
    """The queues to consume, after -Q and -X."""
    return [_queue(queue) for queue in app.amqp.queues.consume_from.values()]


def _queue(queue: Any) -> QueueInfo:
    return QueueInfo(
        name=queue.name,
        exchange=queue.exchange.name if queue.exchange else "",
        exchange_type=queue.exchange.type if queue.exchange else "direct",
        routing_key=queue.routing_key or "",
        details=plain(dict(queue.as_dict(recurse=True))),
        bindings=[
            (bound.exchange.name, bound.exchange.type, bound.routing_key or "")
            for bound in sorted(queue.bindings, key=lambda bound: (bound.exchange.name, bound.routing_key or ""))
            if bound.exchange is not None
        ],
    )


def control(app: Any, *, timeout_s: float) -> ControlInfo:
    """How the worker is reached by remote control. Raises SettingError."""
    from celery.exceptions import ImproperlyConfigured

    from fastq.compat.celery.commands import describe_control

    try:
        return describe_control(app, timeout_s=timeout_s)
    except ImproperlyConfigured as error:
        raise SettingError(" ".join(str(error).split()), exit_code=1) from error


def tasks(app: Any, worker: Any, *, numbered: Sequence[str] = ()) -> list[TaskInfo]:
    """All registered tasks; the order is their numbering."""
    names = [*numbered, *sorted(set(app.tasks) - set(numbered))]
    return [_task(name, app.tasks.get(name), worker) for name in names]


def _task(name: str, task: Any, worker: Any) -> TaskInfo:
    if task is None:
        return TaskInfo(name=name, gone=True)
    return TaskInfo(
        name=str(task.name),
        acks_late=bool(task.acks_late),
        ignore_result=bool(task.ignore_result),
        returns_if_lost=bool(task.acks_late and task.reject_on_worker_lost),
        returns_if_late=bool(task.acks_late and not _acks_timeout(task)),
        # A task's own limit, then the one of the whole pool, as Celery's pool decides.
        soft_time_limit=_seconds(task.soft_time_limit or worker.soft_time_limit),
        time_limit=_seconds(task.time_limit or worker.time_limit),
        rate_limit=None if task.rate_limit is None else str(task.rate_limit),
        send_events=bool(task.send_events),
    )


def _acks_timeout(task: Any) -> bool:
    # One setting with failures before Celery 5.7.
    found = getattr(task, "acks_on_timeout", None)
    return bool(task.acks_on_failure_or_timeout if found is None else found)


def _seconds(value: Any) -> float | None:
    return float(value) if value else None


# ---------------------------------------------------------------------------- addresses


def _broker(app: Any) -> dict[str, Any]:
    conf = app.conf
    connection = app.connection_for_read()
    retry = bool(conf.broker_connection_retry)
    at_start = conf.broker_connection_retry_on_startup
    return {
        "broker_urls": broker_urls(app, connection, conf.broker_read_url),
        "broker_shown": connection.as_uri(),
        "broker_failover_strategy": _strategy(conf.broker_failover_strategy),
        "transport_options": plain(connection.transport_options or {}),
        "broker_use_ssl": use_ssl(conf.broker_use_ssl),
        "broker_connection_retry": retry,
        "broker_connection_retry_on_startup": retry if at_start is None else bool(at_start),
        "broker_connection_max_retries": conf.broker_connection_max_retries or None,
        "broker_connection_timeout_s": conf.broker_connection_timeout,
        "broker_facts": _broker_facts(app),
    }


def _broker_facts(app: Any) -> dict[str, Any]:
    """What Celery's consumer says of its connection, without the password."""
    from kombu.utils.url import maybe_sanitize_url

    facts: dict[str, Any] = plain(dict(app.connection_for_read(heartbeat=app.conf.broker_heartbeat).info()))
    facts.pop("password", None)
    alternates = facts.get("alternates")
    if isinstance(alternates, list):
        facts["alternates"] = [maybe_sanitize_url(url) if isinstance(url, str) else url for url in alternates]
    elif isinstance(alternates, str):
        facts["alternates"] = maybe_sanitize_url(alternates)
    return facts


#: Old settings that change single parts of the broker's URL.
_PARTS = ("broker_host", "broker_port", "broker_user", "broker_password", "broker_vhost", "broker_transport")


def broker_urls(app: Any, connection: Any, url: Any) -> list[str]:
    """All addresses of a kombu connection that was made of the setting `url`."""
    # `alt` holds the URLs of a list (or of one with semicolons) as they were given, passwords and queries included.
    if connection.alt:
        return [str(url) for url in connection.alt]
    if isinstance(url, str) and "://" in url and not any(app.conf.get(part) for part in _PARTS):
        return [url]
    return [str(connection.as_uri(include_password=True))]


def _strategy(value: Any) -> str:
    return value if isinstance(value, str) else "round-robin"


def use_ssl(value: Any) -> dict[str, Any] | bool | None:
    """`broker_use_ssl` without what is Celery's own."""
    if not value:
        return None
    return plain(dict(value)) if isinstance(value, dict) else True


def results(app: Any) -> ResultInfo:
    """Where results go, and whether they may go through the engine."""
    from celery.backends.base import DisabledBackend

    backend = app.backend
    if isinstance(backend, DisabledBackend):
        return ResultInfo(kind="disabled", shown=backend.as_uri())
    if not goes_through_ring(backend):
        return ResultInfo(kind="other", shown=backend.as_uri())
    return ResultInfo(
        kind="redis",
        url=backend.as_uri(include_password=True) or "",
        shown=backend.as_uri(),
        options=_connection_options(backend),
        transport_options=plain(backend._transport_options),
    )


#: Of a backend's connection parameters, those that the URL does not say and MessagePack can.
_OPTIONS = (
    "host",
    "port",
    "db",
    "username",
    "password",
    "path",
    "hosts",
    "socket_timeout",
    "socket_connect_timeout",
    "socket_keepalive",
    "retry_on_timeout",
    "health_check_interval",
    "client_name",
    "ssl_cert_reqs",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_check_hostname",
)


def _connection_options(backend: Any) -> dict[str, Any]:
    from redis.connection import SSLConnection

    params = backend.connparams
    found = {name: params[name] for name in _OPTIONS if params.get(name) is not None}
    connection_class = params.get("connection_class")
    if isinstance(connection_class, type) and issubclass(connection_class, SSLConnection):
        found["ssl"] = True
    result: dict[str, Any] = plain(found)
    return result


# ---------------------------------------------------------------------------- limits and logging


def _limits(app: Any, worker: Any) -> dict[str, Any]:
    conf = app.conf
    return {
        "prefetch_multiplier": int(worker.prefetch_multiplier or 0),
        "disable_prefetch": bool(conf.get("worker_disable_prefetch")),
        "disable_rate_limits": bool(worker.disable_rate_limits),
        "pool_restarts": bool(conf.get("worker_pool_restarts")),
        "eta_task_limit": conf.get("worker_eta_task_limit"),
        "max_tasks_per_child": worker.max_tasks_per_child or None,
        "max_memory_per_child_kib": worker.max_memory_per_child or None,
        "soft_time_limit": _seconds(worker.soft_time_limit),
        "time_limit": _seconds(worker.time_limit),
        "soft_shutdown_timeout_s": float(conf.get("worker_soft_shutdown_timeout") or 0.0),
        "soft_shutdown_on_idle": bool(conf.get("worker_enable_soft_shutdown_on_idle")),
    }


def _logging(worker: Any, app: Any) -> dict[str, Any]:
    conf = app.conf
    return {
        "log_format": str(conf.worker_log_format),
        "log_datefmt": conf.get("worker_log_datefmt"),
        "log_color": conf.get("worker_log_color"),
        "task_log_format": str(conf.worker_task_log_format),
        "loglevel": int(worker.loglevel),
        "logfile": worker.logfile,
        "hijack_root_logger": bool(conf.worker_hijack_root_logger),
        "custom_logging": bool(worker._custom_logging),
        "redirect_stdouts": bool(worker.redirect_stdouts),
        "redirect_stdouts_level": str(worker.redirect_stdouts_level),
        "enable_utc": bool(conf.enable_utc),
        "timezone": str(app.timezone),
    }


def events(app: Any, worker: Any) -> EventsInfo:
    """What monitors are told. Options that are no settings are kept by Celery's worker as they were given."""
    from celery.worker.state import SOFTWARE_INFO

    conf, options = app.conf, worker.options
    return EventsInfo(
        tasks=bool(worker.task_events),
        heartbeat_s=None if options.get("without_heartbeat") else float(options.get("heartbeat_interval") or 2.0),
        gossip=not options.get("without_gossip"),
        mingle=not options.get("without_mingle"),
        exchange=str(conf.event_exchange),
        serializer=str(conf.event_serializer),
        timezone=str(conf.timezone or "UTC"),
        software=dict(SOFTWARE_INFO),
    )


def plain(value: Any) -> Any:
    """The value with everything that MessagePack has no word for as text; enumerations as their numbers."""
    return msgspec.to_builtins(value, enc_hook=_text, str_keys=False, builtin_types=(bytes,))


def _text(value: Any) -> Any:
    return list(value) if isinstance(value, (set, frozenset, tuple)) else str(value)
