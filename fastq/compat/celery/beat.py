"""Run the application's schedule in a process that was forked for it: Celery's own embedded beat."""

from __future__ import annotations

import signal
import sys
from typing import Any

from celery import platforms
from celery.beat import EmbeddedService
from celery.utils.log import iter_open_logger_fds


def run(app: Any, worker: Any) -> None:
    """Do what Celery's beat process does, until SIGTERM; then save the schedule."""
    beat = EmbeddedService(app, schedule_filename=worker.schedule_filename, scheduler_cls=worker.scheduler)
    _become(beat)
    signal.signal(signal.SIGTERM, _end_once)
    platforms.close_open_fds([sys.__stdin__, sys.__stdout__, sys.__stderr__, *iter_open_logger_fds()])
    app.set_default()
    app.set_current()
    beat.service.start(embedded_process=True)


def _become(beat: Any) -> None:
    """Be the process object that logging and Celery ask for names."""
    from multiprocessing import util

    from billiard import process

    process._set_current_process(beat)
    util._run_after_forkers()  # type: ignore[attr-defined]


def _end_once(number: int, _frame: object) -> None:
    """End, and be deaf to the same signal from then on: the schedule file is being written."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(0)
