"""Run the application's schedule in a process that was forked for it: Celery's own embedded beat."""

from __future__ import annotations

from typing import Any


def run(app: Any, worker: Any) -> None:
    """Be Celery's beat process until it is told to end."""
    from multiprocessing import util

    from billiard import process
    from celery.beat import EmbeddedService

    service = EmbeddedService(app, schedule_filename=worker.schedule_filename, scheduler_cls=worker.scheduler)
    service._popen = None
    process._set_current_process(service)
    util._run_after_forkers()  # type: ignore[attr-defined]
    # What its parent does in a new process; here the fork was the nursery's.
    service.run()
