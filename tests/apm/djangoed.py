"""The watched application's tasks in a Django project: results in its database, its logs by structlog."""

from __future__ import annotations

import os

from tests.apm import app as watched

table = watched.table

if "DJANGO_SETTINGS_MODULE" in os.environ:
    import django
    import structlog
    from django.core.management import call_command
    from django_structlog.celery.steps import DjangoStructLogInitStep

    django.setup()
    call_command("migrate", verbosity=0)
    app = table.build_from_environment()
    app.steps["worker"].add(DjangoStructLogInitStep)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer(sort_keys=True)],
        logger_factory=structlog.PrintLoggerFactory(),
    )
