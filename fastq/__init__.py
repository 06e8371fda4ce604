"""fastq: a worker engine for Celery applications, and applications and a producer library of its own.

Nothing is imported here before it is asked for: `import fastq` must stay cheap for the command line, and
`from fastq import FastQ` loads neither redis nor asyncio nor Celery.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastq.app import CoroutineTask, FastQ, Signature, Task, TaskOptions, chain, chord, group, signals
    from fastq.errors import Ignore, Reject, Retry
    from fastq.producer import AsyncHandle, AsyncProducer, Buffering, GroupHandle, Handle, Producer, Replicas
    from fastq.schedules import crontab

__version__ = "0.1.0"

__all__ = [
    "AsyncHandle",
    "AsyncProducer",
    "Buffering",
    "CoroutineTask",
    "FastQ",
    "GroupHandle",
    "Handle",
    "Ignore",
    "Producer",
    "Reject",
    "Replicas",
    "Retry",
    "Signature",
    "Task",
    "TaskOptions",
    "__version__",
    "chain",
    "chord",
    "crontab",
    "group",
    "signals",
]

#: Where each public name is.
_HOMES = {
    "AsyncHandle": "fastq.producer",
    "AsyncProducer": "fastq.producer",
    "Buffering": "fastq.producer",
    "CoroutineTask": "fastq.app",
    "FastQ": "fastq.app",
    "GroupHandle": "fastq.producer",
    "Handle": "fastq.producer",
    "Ignore": "fastq.errors",
    "Producer": "fastq.producer",
    "Reject": "fastq.errors",
    "Replicas": "fastq.producer",
    "Retry": "fastq.errors",
    "Task": "fastq.app",
    "Signature": "fastq.app",
    "TaskOptions": "fastq.app",
    "chain": "fastq.app",
    "chord": "fastq.app",
    "crontab": "fastq.schedules",
    "group": "fastq.app",
    "signals": "fastq.app",
}


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'fastq' has no attribute {name!r}") from None
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
