"""fastq and Celery under a monitoring agent that reports every task: on the workloads that ask what that costs."""

from __future__ import annotations

import msgspec

from bench.peers import celery, fastq
from bench.peers.peer import Peer

#: Packages whose versions matter, and where each agent is told to report to.
_AGENTS = {
    "sentry": (("sentry-sdk",), {"SENTRY_DSN": "http://key@{sink}/1"}),
    "opentelemetry": (
        ("opentelemetry-sdk", "opentelemetry-instrumentation-celery"),
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://{sink}", "OTEL_SERVICE_NAME": "bench"},
    ),
}


def _watched(peer: Peer, agent: str) -> Peer:
    packages, variables = _AGENTS[agent]
    return msgspec.structs.replace(
        peer,
        name=f"{peer.name}+{agent}",
        why=f"The tuned {peer.name} with {agent}'s integration for Celery: every task is reported, to a sink.",
        home="apm",
        packages=packages,
        variables={**peer.variables, **variables, "FASTQ_BENCH_AGENT": agent},
        variation="agents",
    )


PEERS = tuple(_watched(peer, agent) for agent in _AGENTS for peer in (fastq.TUNED, celery.TUNED))
