"""A Django project as small as it gets, with its database in the folder of the test."""

from __future__ import annotations

import os
from pathlib import Path

SECRET_KEY = "of the tests"
USE_TZ = True
INSTALLED_APPS = ["django_celery_results", "django_structlog"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(Path(os.environ["FASTQ_TEST_FOLDER"]) / "django.sqlite"),
        "OPTIONS": {"timeout": 20},
    }
}
DJANGO_STRUCTLOG_CELERY_ENABLED = True
