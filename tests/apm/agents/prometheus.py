"""An exporter such as many applications have: a counter of Celery's signals, in files that all processes share."""

from __future__ import annotations

from collections import Counter as Count
from pathlib import Path
from typing import Any

PACKAGES = ("prometheus-client",)

#: Signals whose sender is, or which carry, a task.
SIGNALS = (
    "task_received",
    "task_prerun",
    "task_postrun",
    "task_success",
    "task_failure",
    "task_retry",
    "task_revoked",
    "task_rejected",
    "task_unknown",
    "before_task_publish",
    "after_task_publish",
)


def set_up(app: Any) -> None:
    """Count every signal, by task and state."""
    from celery import signals
    from prometheus_client import Counter

    counter = Counter("signals", "Signals sent", ["signal", "task", "state"])

    def connect(name: str) -> None:
        def count(sender: Any = None, **facts: Any) -> None:
            task = getattr(sender, "name", None) or facts.get("name") or getattr(facts.get("request"), "name", "")
            counter.labels(name, task or str(sender), facts.get("state") or "").inc()

        getattr(signals, name).connect(count, weak=False)

    for name in SIGNALS:
        connect(name)


def counted(folder: Path) -> Count[str]:
    """What a scrape of all processes' files says."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call, unused-ignore]
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    return Count({" ".join(filter(None, sample.labels.values())): int(sample.value) for sample in samples})
