"""fastq: a worker engine for Celery applications, and applications and a producer library of its own.

Nothing is imported here before it is asked for: `import fastq` must stay cheap for the command line, and
`from fastq import FastQ` loads neither redis nor asyncio nor Celery.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastq.app import signals
    from fastq.app.app import FastQ
    from fastq.app.canvas import Signature, chain, chord, group
    from fastq.app.task import CoroutineTask, Task, TaskOptions
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
    "CoroutineTask": "fastq.app.task",
    "FastQ": "fastq.app.app",
    "GroupHandle": "fastq.producer",
    "Handle": "fastq.producer",
    "Ignore": "fastq.errors",
    "Producer": "fastq.producer",
    "Reject": "fastq.errors",
    "Replicas": "fastq.producer",
    "Retry": "fastq.errors",
    "Task": "fastq.app.task",
    "Signature": "fastq.app.canvas",
    "TaskOptions": "fastq.app.task",
    "chain": "fastq.app.canvas",
    "chord": "fastq.app.canvas",
    "crontab": "fastq.schedules",
    "group": "fastq.app.canvas",
    "signals": "fastq.app.signals",
}


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'fastq' has no attribute {name!r}") from None
    module = importlib.import_module(home)
    return module if home.endswith(f".{name}") else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
