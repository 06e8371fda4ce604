"""Native applications: `from fastq import FastQ`. No Celery, and no connection before the first task is sent."""

from __future__ import annotations

from fastq.app import signals
from fastq.app.app import FastQ
from fastq.app.canvas import Signature, chain, chord, group
from fastq.app.task import CoroutineTask, Task, TaskOptions

__all__ = [
    "CoroutineTask",
    "FastQ",
    "Signature",
    "Task",
    "TaskOptions",
    "chain",
    "chord",
    "group",
    "signals",
]
