"""fastq: a worker engine for Celery applications, and applications and a producer library of its own.

Nothing is imported here before it is asked for: `import fastq` must stay cheap for the command line, and
`from fastq import FastQ` loads neither redis nor asyncio nor Celery.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastq.app import CoroutineTask, FastQ, Task, TaskOptions, signals
    from fastq.errors import Ignore, Reject, Retry

__version__ = "0.1.0"

__all__ = [
    "CoroutineTask",
    "FastQ",
    "Ignore",
    "Reject",
    "Retry",
    "Task",
    "TaskOptions",
    "__version__",
    "signals",
]

#: Where each public name is.
_HOMES = {
    "CoroutineTask": "fastq.app",
    "FastQ": "fastq.app",
    "Ignore": "fastq.errors",
    "Reject": "fastq.errors",
    "Retry": "fastq.errors",
    "Task": "fastq.app",
    "TaskOptions": "fastq.app",
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
