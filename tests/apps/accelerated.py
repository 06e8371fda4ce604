"""The application of `plain`, accelerated: what its tasks send goes the fast way."""

from __future__ import annotations

import os

from fastq.celery import accelerate
from tests.apps.plain import table

__all__ = ["app", "table"]

app = table.build_from_environment()

if "FASTQ_TEST_FOLDER" in os.environ:  # in a worker
    accelerate(app)
