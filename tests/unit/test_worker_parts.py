"""What the engine makes of an application's settings."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from celery import Celery

from fastq.compat.celery.describe import results
from fastq.transport.connect import Endpoint
from fastq.worker.parts import result_endpoint


def endpoint_of(backend: str, **settings: Any) -> Endpoint:
    app = Celery("proj", backend=backend)
    app.conf.update(settings)
    return result_endpoint(results(app))


@pytest.mark.parametrize(
    ("backend", "same"),
    [
        ("redis://h:7000/3", "redis://h:7000/3"),
        ("redis://user:pw%40@h/3", "redis://other:user@h:6379/3"),
        ("redis+socket:///run/redis.sock?virtual_host=2", "redis+socket:///run/redis.sock?virtual_host=2"),
    ],
)
def test_results_go_where_celery_would_store_them(backend: str, same: str) -> None:
    assert endpoint_of(backend) == Endpoint.parse(same)


def test_settings_say_more_than_the_url() -> None:
    there = endpoint_of("redis", redis_host="hh", redis_port=77, redis_db=4, redis_password="secret")
    assert there == Endpoint.parse("redis://hh:77/4")
    assert there.addresses[0].password == "secret"
    assert "secret" not in there.masked()


@pytest.mark.parametrize(
    ("backend", "settings"),
    [
        ("rediss://h:1/2?ssl_cert_reqs=none", {}),
        ("redis://h:1/2", {"redis_backend_use_ssl": {"ssl_cert_reqs": ssl.CERT_NONE}}),
    ],
)
def test_results_over_tls(backend: str, settings: dict[str, Any]) -> None:
    [address] = endpoint_of(backend, **settings).addresses
    assert address.tls == {"ssl_cert_reqs": 0}


def test_results_behind_sentinels() -> None:
    options = {"master_name": "mine"}
    there = endpoint_of("sentinel://a:1;sentinel://b:2/3", result_backend_transport_options=options)
    [address] = there.addresses
    assert (address.kind, address.sentinels, there.options["master_name"]) == ("sentinel", (("a", 1), ("b", 2)), "mine")
