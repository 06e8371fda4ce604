"""Send the signals of Celery's main process from the nursery, which is where that process lives here."""

from __future__ import annotations

from typing import Any

from celery import signals
from celery.utils.objects import Bunch

from fastq.errors import Bug


def consumer_stand_in(worker: Any) -> Any:
    """What receivers get where Celery sends its consumer: the same names, without a connection."""
    return Bunch(
        app=worker.app,
        hostname=worker.hostname,
        controller=worker,
        pool=None,
        connection=None,
        event_dispatcher=None,
        task_consumer=None,
        timer=None,
        initial_prefetch_count=0,
    )


def notify(worker: Any, signal: str, arguments: dict[str, Any]) -> None:
    """Send `signal`; errors in receivers are logged by Celery's dispatcher, and nobody stops for them."""
    if signal == "worker_ready":
        signals.worker_ready.send(sender=consumer_stand_in(worker))
    elif signal == "worker_shutting_down":
        signals.worker_shutting_down.send(sender=worker.hostname, **arguments)
    elif signal == "worker_shutdown":
        worker.app.loader.shutdown_worker()
        signals.worker_shutdown.send(sender=worker)
    else:
        raise Bug(f"the nursery was asked to send {signal!r}, which it does not know")
