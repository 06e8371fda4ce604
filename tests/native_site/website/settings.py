"""Settings of the website."""

import os
from pathlib import Path
from typing import Any

SECRET_KEY = "for tests"
USE_TZ = True
TIME_ZONE = "Europe/Paris"
INSTALLED_APPS = ["store"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(Path(os.environ["FASTQ_TEST_FOLDER"]) / "db.sqlite3"),
    }
}

FASTQ = {
    "broker_url": os.environ["FASTQ_TEST_BROKER"],
    "result_backend": os.environ["FASTQ_TEST_BACKEND"],
    "task_default_queue": "store",
    "task_queues": ["store", "default"],
}
TASKS = {
    "default": {
        "BACKEND": "fastq.contrib.django.tasks.TaskBackend",
        "QUEUES": ["default", "store"],
        "OPTIONS": {"app": "website.queue:app"},
    }
}
