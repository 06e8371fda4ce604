"""Run the application's schedule in a process that was forked for it: Celery's own embedded beat."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from celery import platforms
from celery.beat import EmbeddedService, PersistentScheduler
from celery.utils.imports import symbol_by_name
from celery.utils.log import iter_open_logger_fds

from fastq.errors import SettingError


def run(app: Any, worker: Any) -> None:
    """Do what Celery's beat process does, until SIGTERM; then save the schedule. Raises SettingError at once if it
    cannot be saved: Celery's process would end with three tracebacks, and the worker go on without a schedule, too."""
    beat = EmbeddedService(app, schedule_filename=worker.schedule_filename, scheduler_cls=worker.scheduler)
    _become(beat)
    _check_file(beat.service)
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


def _check_file(service: Any) -> None:
    scheduler = symbol_by_name(service.scheduler_cls)
    if not (isinstance(scheduler, type) and issubclass(scheduler, PersistentScheduler)):
        return
    path = os.path.abspath(service.schedule_filename)
    there = [path + suffix for suffix in PersistentScheduler.known_suffixes if os.path.exists(path + suffix)]
    for needed in (os.path.dirname(path), *there):
        if not os.access(needed, os.W_OK):
            why = "is not writable" if os.path.exists(needed) else "does not exist"
            raise SettingError(
                f"the schedule cannot be kept in {path}: {needed} {why}; give another file with --schedule"
            )


def _end_once(number: int, _frame: object) -> None:
    """End, and be deaf to the same signal from then on: the schedule file is being written."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(0)
