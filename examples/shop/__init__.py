"""A small web shop's background work: an ordinary Celery application, nothing in it knows of fastq.

From the top folder of the repository, either engine runs it:

    celery -A examples.shop worker -c 2
    fastq -A examples.shop worker -c 2
"""

from __future__ import annotations

from examples.shop.celery import app

__all__ = ["app"]
