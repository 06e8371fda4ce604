"""Datadog's tracer, started by its own command, in front of an agent's `/v0.4/traces`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from tests.apm.agents import Seen
from tests.apm.collector import Collector, Sent

PACKAGES = ("ddtrace",)
COMMAND = ("ddtrace-run",)


def environment(collector: Collector) -> dict[str, str]:
    """Where to report to, and nothing but traces."""
    return {
        "DD_TRACE_AGENT_URL": collector.url,
        "DD_TRACE_API_VERSION": "v0.4",
        "DD_CELERY_DISTRIBUTED_TRACING": "true",
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        "DD_CRASHTRACKING_ENABLED": "false",
        "DD_TRACE_REDIS_ENABLED": "false",
    }


def set_up(app: Any) -> None:
    """The command has done it."""


def answer(sent: Sent) -> Any:
    """What an agent says to traces: how much of each service to keep."""
    if sent.path == "/info":
        return {"version": "7.60.0", "endpoints": ["/v0.4/traces"], "client_drop_p0s": False}
    return {"rate_by_service": {"service:,env:": 1}}


def read(sent: Iterable[Sent]) -> list[Seen]:
    """Spans, with the type of error in them."""
    bodies = [msgspec.msgpack.decode(one.body, strict=False) for one in sent if one.path == "/v0.4/traces"]
    return [_seen(span) for traces in bodies for trace in traces for span in trace]


def _seen(span: dict[str, Any]) -> Seen:
    tags = span.get("meta", {})
    return Seen(
        kind=span["name"],
        name=span["resource"],
        status=tags.get("celery.state", "") + (" ERROR" if span.get("error") else ""),
        error=tags.get("error.type", ""),
        id=str(span["span_id"]),
        parent=str(span.get("parent_id") or ""),
        trace=str(span["trace_id"]),
        task_id=tags.get("celery.id", ""),
    )
