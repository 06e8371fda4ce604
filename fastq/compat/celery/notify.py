"""Send the signals of Celery's main process from the nursery, which is where that process lives here."""

from __future__ import annotations

from typing import Any

from celery import signals

from fastq.errors import Bug


class Consumer:
    """What receivers get where Celery sends its consumer: the same names, without a connection."""

    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)


def consumer_stand_in(worker: Any, *, event_dispatcher: Any = None) -> Consumer:
    """The stand-in for `worker`."""
    return Consumer(
        app=worker.app,
        hostname=worker.hostname,
        controller=worker,
        pool=None,
        connection=None,
        event_dispatcher=event_dispatcher,
        task_consumer=None,
        timer=None,
        initial_prefetch_count=0,
    )


class Heart:
    """Stands where Celery sends its heartbeat service."""

    def __init__(self, *, interval_s: float) -> None:
        self.interval = interval_s
        self.timer: None = None
        self.eventer: None = None
        self.tref: None = None


class Pool:
    """Stands where Celery sends its pool of processes."""

    def __init__(self, worker: Any) -> None:
        self._processes = worker.concurrency
        self._initargs = (worker.app, worker.hostname)


def notify(worker: Any, signal: str, arguments: dict[str, Any]) -> None:
    """Send `signal`; errors in receivers are logged by Celery's dispatcher, and nobody stops for them."""
    if signal == "worker_ready":
        signals.worker_ready.send(sender=consumer_stand_in(worker))
    elif signal == "worker_before_create_process":
        if signals.worker_before_create_process.receivers:
            signals.worker_before_create_process.send(sender=Pool(worker))
    elif signal == "heartbeat_sent":
        signals.heartbeat_sent.send(sender=Heart(**arguments))
    elif signal == "worker_shutting_down":
        signals.worker_shutting_down.send(sender=worker.hostname, **arguments)
    elif signal == "worker_shutdown":
        worker.app.loader.shutdown_worker()
        worker.blueprint.stop(worker)
        signals.worker_shutdown.send(sender=worker)
    else:
        raise Bug(f"the nursery was asked to send {signal!r}, which it does not know")
