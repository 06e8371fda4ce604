"""Sentry's SDK with its Celery integration, set up when a worker begins."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tests.apm.agents import Seen
from tests.apm.collector import HOST, Collector, Sent

PACKAGES = ("sentry-sdk",)
COMMAND: tuple[str, ...] = ()


def environment(collector: Collector) -> dict[str, str]:
    """Where to report to."""
    return {"SENTRY_DSN": f"http://key@{HOST}:{collector.port}/1"}


def begin(**_: Any) -> None:
    """Set it up in this process."""
    import sentry_sdk
    from sentry_sdk.integrations.celery import CeleryIntegration

    sentry_sdk.init(traces_sample_rate=1.0, integrations=[CeleryIntegration(monitor_beat_tasks=True)])


def set_up(app: Any) -> None:
    """As the integration's documentation has it: when the worker begins."""
    from celery import signals

    signals.celeryd_init.connect(begin, weak=False)


def answer(sent: Sent) -> Any:
    """Nothing to say."""
    return {}


def read(sent: Iterable[Sent]) -> list[Seen]:
    """Transactions with their spans, and events."""
    return [seen for request in sent for item in _items(request.body) for seen in _seen(item)]


def _items(body: bytes) -> Iterator[dict[str, Any]]:
    lines = iter(body.split(b"\n")[1:])
    for header in lines:
        if not header:
            continue
        payload = next(lines, b"{}")
        if json.loads(header)["type"] in ("transaction", "event"):
            yield json.loads(payload)


def _seen(item: dict[str, Any]) -> Iterator[Seen]:
    context = item["contexts"]["trace"]
    task_id = item.get("tags", {}).get("celery_task_id", "")
    if item.get("type") != "transaction":
        error = item["exception"]["values"][-1]
        yield Seen(
            kind="error", name=item["transaction"], error=error["type"], parent=context["span_id"], task_id=task_id
        )
        return
    yield _span(context, name=item["transaction"], task_id=task_id)
    for span in item["spans"]:
        if span["op"].startswith("db."):
            continue  # a task whose result the engine stores sends nothing to Redis itself
        yield _span(span, name=span["description"], task_id=task_id)


def _span(context: dict[str, Any], *, name: str, task_id: str) -> Seen:
    return Seen(
        kind=context["op"],
        name=name,
        status=context.get("status") or "",
        id=context["span_id"],
        parent=context.get("parent_span_id") or "",
        trace=context["trace_id"],
        task_id=task_id,
    )
