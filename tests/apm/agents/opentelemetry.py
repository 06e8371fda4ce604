"""OpenTelemetry's instrumentation of Celery, exported by OTLP over HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.apm.agents import Seen
from tests.apm.collector import Collector, Sent

PACKAGES = ("opentelemetry-instrumentation-celery", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
COMMAND: tuple[str, ...] = ()


def environment(collector: Collector) -> dict[str, str]:
    """Where to report to."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "tests"}


def set_up(app: Any) -> None:
    """As the instrumentation's documentation has it: in each child."""
    from celery import signals

    def begin(**_: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.celery import CeleryInstrumentor
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
        CeleryInstrumentor().instrument()

    signals.worker_process_init.connect(begin, weak=False)


def answer(sent: Sent) -> Any:
    """Nothing to say."""
    return {}


def read(sent: Iterable[Sent]) -> list[Seen]:
    """Spans, and the exceptions recorded on them."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    requests = [ExportTraceServiceRequest.FromString(one.body) for one in sent if one.path == "/v1/traces"]
    resources = [resource for request in requests for resource in request.resource_spans]
    spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
    return [seen for span in spans for seen in _seen(span)]


def _seen(span: Any) -> list[Seen]:
    tags = {tag.key: tag.value.string_value for tag in span.attributes}
    own = Seen(
        kind=("", "", "", "", "publish", "run")[span.kind],
        name=span.name,
        status=" ".join(filter(None, (tags.get("celery.state"), "ERROR" if span.status.code == 2 else ""))),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        trace=span.trace_id.hex(),
        task_id=tags.get("messaging.message.id", ""),
    )
    return [own, *(_error(event, span) for event in span.events if event.name == "exception")]


def _error(event: Any, span: Any) -> Seen:
    tags = {tag.key: tag.value.string_value for tag in event.attributes}
    return Seen(kind="error", name=span.name, error=tags["exception.type"], parent=span.span_id.hex())
