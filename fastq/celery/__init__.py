"""What fastq does for applications that stay Celery's: `accelerate(app)` gives one the fast producer."""

from __future__ import annotations

from fastq.compat.celery.accelerate import Acceleration, accelerate

__all__ = ["Acceleration", "accelerate"]
