"""Settings of the shop."""

import os
from pathlib import Path
from typing import Any

SECRET_KEY = "for tests"
USE_TZ = True
TIME_ZONE = "Europe/Paris"
INSTALLED_APPS = ["shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(Path(os.environ["FASTQ_TEST_FOLDER"]) / "db.sqlite3"),
    }
}

CELERY_BROKER_URL = os.environ["FASTQ_TEST_BROKER"]
CELERY_RESULT_BACKEND = os.environ["FASTQ_TEST_BACKEND"]
CELERY_TASK_DEFAULT_QUEUE = "shop"
CELERY_TASK_TIME_LIMIT = 60
CELERY_TIMEZONE = TIME_ZONE

if os.environ.get("FASTQ_TEST_SCHEDULER") == "django":
    INSTALLED_APPS.append("django_celery_beat")
    CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
