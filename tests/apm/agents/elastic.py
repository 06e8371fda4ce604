"""Elastic's agent, with its two registrations for Celery, in front of an intake of version 2."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.apm.agents import Seen
from tests.apm.collector import Collector, Sent

PACKAGES = ("elastic-apm",)
COMMAND: tuple[str, ...] = ()


def environment(collector: Collector) -> dict[str, str]:
    """Where to report to, and nothing but traces and errors."""
    return {
        "ELASTIC_APM_SERVER_URL": collector.url,
        "ELASTIC_APM_SERVICE_NAME": "tests",
        "ELASTIC_APM_CENTRAL_CONFIG": "false",
        "ELASTIC_APM_CLOUD_PROVIDER": "none",
        "ELASTIC_APM_METRICS_INTERVAL": "0s",
    }


def set_up(app: Any) -> None:
    """As the agent's documentation has it."""
    import elasticapm
    from elasticapm.contrib.celery import register_exception_tracking, register_instrumentation

    client = elasticapm.Client(server_version=(8, 15, 0))
    register_instrumentation(client)
    register_exception_tracking(client)


def answer(sent: Sent) -> Any:
    """Nothing to say."""
    return {"version": "8.15.0"}


def read(sent: Iterable[Sent]) -> list[Seen]:
    """Transactions, spans and errors."""
    lines = [line for one in sent if one.path.startswith("/intake") for line in one.body.splitlines()]
    return [seen for line in lines for kind, facts in json.loads(line).items() for seen in _seen(kind, facts)]


def _seen(kind: str, facts: dict[str, Any]) -> list[Seen]:
    if kind not in ("transaction", "span", "error"):
        return []
    return [
        Seen(
            kind={"transaction": "run"}.get(kind, kind),
            name=facts.get("name") or facts.get("transaction", {}).get("name") or "",
            status=" ".join(filter(None, (facts.get("result"), facts.get("outcome")))),
            error=facts.get("exception", {}).get("type", ""),
            id="" if kind == "error" else facts["id"],
            parent=facts.get("parent_id") or "",
            trace=facts.get("trace_id") or "",
        )
    ]
