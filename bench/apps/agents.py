"""Set an application up for a monitoring agent, as its documentation has it: FASTQ_BENCH_AGENT names it."""

from __future__ import annotations

from typing import Any

from celery import signals


def set_up(agent: str) -> None:
    """Connect what begins it when a worker, or a child, begins."""
    if agent == "sentry":
        signals.celeryd_init.connect(_sentry, weak=False)
    elif agent == "opentelemetry":
        signals.worker_process_init.connect(_opentelemetry, weak=False)
    else:
        raise ValueError(f"FASTQ_BENCH_AGENT={agent!r} is neither 'sentry' nor 'opentelemetry'")


def _sentry(**_: Any) -> None:
    """Errors and a transaction of every task. SENTRY_DSN says where to."""
    import sentry_sdk
    from sentry_sdk.integrations.celery import CeleryIntegration

    sentry_sdk.init(traces_sample_rate=1.0, integrations=[CeleryIntegration()])


def _opentelemetry(**_: Any) -> None:
    """A span of every task, sent in batches. OTEL_EXPORTER_OTLP_ENDPOINT says where to."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.celery import CeleryInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()
