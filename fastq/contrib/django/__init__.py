"""A native application in a Django project: its settings, its tasks, and its database connections.

    # proj/fastq.py
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")

    from fastq.contrib.django import application

    app = application("proj")

    # proj/settings.py
    FASTQ = {"broker_url": "redis://127.0.0.1:6379/0", "result_backend": "redis://127.0.0.1:6379/1"}

The worker is `fastq -A proj.fastq worker`. Tasks are in the modules `tasks` of INSTALLED_APPS.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import django
from django.apps import apps
from django.conf import settings
from django.db import close_old_connections, connections, reset_queries

from fastq.app import signals
from fastq.app.app import FastQ
from fastq.app.settings import Settings, read_object
from fastq.errors import SettingError

logger: logging.Logger = logging.getLogger(__name__)


def application(name: str, **more: Any) -> FastQ:
    """Make the application of this project. `more` are settings that win over those of Django's settings.

    Raises SettingError for a name in FASTQ that is no setting. Of CELERY_ names, those that mean nothing here are left
    out, and named in the log.
    """
    app = FastQ(name, **{"timezone": settings.TIME_ZONE, **read_settings(), **more})
    app.autodiscover_tasks(installed_apps)
    _watch()
    from fastq.contrib.django.running import register  # it needs an application

    register(app)
    return app


def read_settings() -> dict[str, Any]:
    """The dictionary FASTQ, or else what is there under CELERY_ names."""
    given = getattr(settings, "FASTQ", None)
    if given is None:
        return _celerys()
    if not isinstance(given, Mapping):
        raise SettingError(f"FASTQ in the settings is {given!r:.100}; it must be a dictionary of settings")
    return {str(name).lower(): value for name, value in given.items()}


def _celerys() -> dict[str, Any]:
    names = [name for name in dir(settings) if name.startswith("CELERY_")]
    found = read_object({name: getattr(settings, name) for name in names}, namespace="CELERY")
    known = {name: value for name, value in found.items() if name in Settings.__struct_fields__}
    if unknown := sorted(set(found) - set(known)):
        logger.info("CELERY_ settings that mean nothing here: %s", ", ".join(unknown))
    return known


def installed_apps() -> list[str]:
    """The packages whose tasks a worker imports. Sets Django up, if nobody has."""
    if not apps.ready:
        django.setup()
    return [config.name for config in apps.get_app_configs()]


# ---------------------------------------------------------------------------- connections


def _watch() -> None:
    signals.worker_before_create_process.connect(_before_fork)
    signals.task_prerun.connect(_around_task)
    signals.task_postrun.connect(_around_task)


def _before_fork(**_fields: Any) -> None:
    """What importing has connected is closed by its owner; two processes on one connection would mix their answers."""
    connections.close_all()


def _around_task(**_fields: Any) -> None:
    """As around a request: what is too old (CONN_MAX_AGE) or broken is closed. Not within a transaction."""
    close_old_connections()
    reset_queries()
