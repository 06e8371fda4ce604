"""OpenTelemetry without a line in the application: started by `opentelemetry-instrument`, before any fork."""

from __future__ import annotations

from typing import Any

from tests.apm.agents import opentelemetry
from tests.apm.agents.opentelemetry import answer, read
from tests.apm.collector import Collector

__all__ = ["COMMAND", "PACKAGES", "answer", "environment", "read", "set_up"]

PACKAGES = (*opentelemetry.PACKAGES, "opentelemetry-distro")
COMMAND = ("opentelemetry-instrument",)


def environment(collector: Collector) -> dict[str, str]:
    """Where to report to, and nothing but traces."""
    return {
        **opentelemetry.environment(collector),
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }


def set_up(app: Any) -> None:
    """The command has done it."""
