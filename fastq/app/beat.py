"""Run the schedule of a native application in this process: a `leader` with its application, producer and Redis."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastq.app.leader import Compose, Scheduler, UntilSignal, firing_id

if TYPE_CHECKING:
    from fastq.app.app import FastQ
    from fastq.app.schedule import Entry
    from fastq.transport.connect import Endpoint
    from fastq.transport.redis.locks import Lock
    from fastq.transport.redis.schedule import ScheduleStore

logger: logging.Logger = logging.getLogger(__name__)

#: Seconds that a command may take: a lead outlives two of them.
TIMEOUT_S = 2.5


def run(app: FastQ, *, node: str) -> None:
    """Send what is due, or stand by, until SIGTERM or SIGINT. Main thread only. Raises ScheduleError, UrlError,
    SettingError; an unreachable server is waited for."""
    entries = app.entries()
    if not entries:
        logger.warning("Scheduler: the schedule of %s is empty; this process stands by.", app.name)
    scheduler = Scheduler(
        app.name, entries, store=open_store(app)[1], compose=composer(app), who=f"{node}:{os.getpid()}"
    )
    with UntilSignal() as until:
        scheduler.run(until)


def open_store(app: FastQ) -> tuple[Endpoint, ScheduleStore]:
    """What the broker knows of the application's schedule. Nothing connects before it is asked."""
    from fastq.transport.connect import Endpoint
    from fastq.transport.redis.keys import Keys
    from fastq.transport.redis.schedule import ScheduleStore

    conf = app.conf
    options: Mapping[str, Any] = conf.broker_transport_options
    endpoint = Endpoint.parse(conf.broker_url, transport_options=options, use_ssl=conf.broker_use_ssl)
    client = endpoint.client(timeout_s=TIMEOUT_S)
    return endpoint, ScheduleStore(client, app=app.name, keys=Keys.from_options(options))


def composer(app: FastQ) -> Compose:
    """Writes the message of a due time as `apply_async` would, for the list that it belongs in."""

    def compose(entry: Entry, due_ms: int) -> tuple[str, bytes | str, Lock | None]:
        options = {**entry.options, "task_id": firing_id(app.name, entry.name, due_ms)}
        return app.compose(entry.task, entry.args, entry.kwargs, options)

    return compose
