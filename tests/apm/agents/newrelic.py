"""New Relic's agent, started by its own command, in front of a collector that speaks TLS."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tests.apm.agents import Seen
from tests.apm.collector import HOST, Collector, Sent

PACKAGES = ("newrelic",)
COMMAND = ("newrelic-admin", "run-program")
TLS = True
#: It sends once a minute, and at the end.
AT_EXIT = True


def environment(collector: Collector) -> dict[str, str]:
    """Where to report to. A task that runs before the agent has registered is not recorded: so wait for that."""
    return {
        "NEW_RELIC_LICENSE_KEY": "0" * 40,
        "NEW_RELIC_APP_NAME": "tests",
        "NEW_RELIC_HOST": HOST,
        "NEW_RELIC_PORT": str(collector.port),
        "NEW_RELIC_CA_BUNDLE_PATH": str(collector.certificate),
        "NEW_RELIC_STARTUP_TIMEOUT": "10",
        "NEW_RELIC_LOG": "stderr",
        "NEW_RELIC_LOG_LEVEL": "warning",
        "NEW_RELIC_MONITOR_MODE": "true",
    }


def set_up(app: Any) -> None:
    """The command has done it."""


def answer(sent: Sent) -> Any:
    """What a collector says while an agent registers, and afterwards."""
    method = sent.query.get("method", [""])[0]
    if method == "preconnect":
        return {"return_value": {"redirect_host": HOST}}
    if method == "connect":
        return {"return_value": CONNECTED}
    return {"return_value": [] if method == "get_agent_commands" else None}


CONNECTED: dict[str, Any] = {
    "agent_run_id": "1",
    "account_id": "1",
    "primary_application_id": "1",
    "trusted_account_key": "1",
    "collect_errors": True,
    "collect_traces": True,
    "collect_analytics_events": True,
    "collect_error_events": True,
    "collect_span_events": True,
    "data_report_period": 60,
    "event_harvest_config": {
        "report_period_ms": 5000,
        "harvest_limits": {"analytic_event_data": 1000, "error_event_data": 1000, "span_event_data": 1000},
    },
    "span_event_harvest_config": {"report_period_ms": 60000, "harvest_limit": 1000},
}


def read(sent: Iterable[Sent]) -> list[Seen]:
    """Transactions, the spans of those that were sampled, and errors."""
    return [seen for one in sent if one.query for seen in _of_method(one.query["method"][0], one.body)]


def _of_method(method: str, body: bytes) -> Iterator[Seen]:
    if method not in ("analytic_event_data", "error_event_data"):
        return
    for event in json.loads(body)[2]:
        yield _transaction(event[0]) if event[0]["type"] == "Transaction" else _error(event[0])


def _transaction(facts: dict[str, Any]) -> Seen:
    return Seen(
        kind="run",
        name=facts["name"],
        status="ERROR" if facts.get("error") else "",
        id=facts["guid"],
        parent=facts.get("parentId", ""),
        trace=facts["traceId"],
    )


def _error(facts: dict[str, Any]) -> Seen:
    return Seen(kind="error", name=facts["transactionName"], error=facts["error.class"], parent=facts["guid"])
