"""Broker addresses are read as kombu reads them, and never shown with their password."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from fastq.errors import SettingError, UrlError
from fastq.producer import Producer
from fastq.transport.connect import Endpoint
from fastq.transport.urls import Address, read_urls


def one(url: str, **more: Any) -> Address:
    (address,) = read_urls(url, **more)
    return address


@pytest.mark.parametrize(
    ("url", "host", "port", "db"),
    [
        ("redis://", "127.0.0.1", 6379, 0),
        ("redis://h", "h", 6379, 0),
        ("redis://h:7/3", "h", 7, 3),
        ("redis://h/", "h", 6379, 0),
        ("REDIS://h/1", "h", 6379, 1),
        ("redis://[::1]:7/2", "::1", 7, 2),
        ("redis://h?virtual_host=4", "h", 6379, 4),
    ],
)
def test_host_port_and_database(url: str, host: str, port: int, db: int) -> None:
    address = one(url)
    assert (address.kind, address.host, address.port, address.db, address.tls) == ("tcp", host, port, db, None)


@pytest.mark.parametrize(
    ("url", "user", "password"),
    [
        ("redis://:secret@h", None, "secret"),
        ("redis://me:p%40ss%2Fword@h/0", "me", "p@ss/word"),
        ("redis://me@h", "me", None),
        ("redis://h", None, None),
    ],
)
def test_user_and_password_are_percent_decoded(url: str, user: str | None, password: str | None) -> None:
    assert (one(url).username, one(url).password) == (user, password)


@pytest.mark.parametrize(
    ("url", "path", "db"),
    [
        ("redis+socket:///tmp/a%20b.sock?virtual_host=5", "/tmp/a b.sock", 5),
        ("redis+socket:///tmp/a.sock", "/tmp/a.sock", 0),
        ("socket:///a.sock?virtual_host=/2", "/a.sock", 2),
        ("unix://me:secret@/a.sock?db=7", "/a.sock", 7),
    ],
)
def test_unix_sockets(url: str, path: str, db: int) -> None:
    address = one(url)
    assert (address.kind, address.path, address.db) == ("unix", path, db)


def test_several_urls_are_alternatives_in_order() -> None:
    assert [a.host for a in read_urls("redis://a/1;redis://b/2")] == ["a", "b"]
    assert [a.host for a in read_urls(["redis://a", "redis://b;redis://c"])] == ["a", "b", "c"]


def test_sentinels_are_one_alternative_with_the_firsts_database() -> None:
    address = one("sentinel://:secret@a/3;sentinel://b:7")
    assert address.sentinels == (("a", 6379), ("b", 7))
    assert (address.db, address.password) == (3, "secret")
    assert address.masked() == "sentinel://:**@a:6379;sentinel://:**@b:7/3"


# TLS


def test_rediss_without_options_verifies_nothing_as_kombu() -> None:
    assert one("rediss://h").tls == {"ssl_cert_reqs": ssl.CERT_NONE}
    assert one("rediss://h", use_ssl=True).tls == {"ssl_cert_reqs": ssl.CERT_NONE}


@pytest.mark.parametrize("value", ["required", "CERT_REQUIRED"])
def test_the_query_counts_before_broker_use_ssl(value: str) -> None:
    address = one(f"rediss://h?ssl_cert_reqs={value}&ssl_check_hostname=False", use_ssl={"ssl_ca_certs": "x"})
    assert address.tls == {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": False}


def test_broker_use_ssl_makes_any_url_a_tls_one() -> None:
    address = one("redis://h", use_ssl={"ssl_cert_reqs": ssl.CERT_OPTIONAL, "ssl_ca_certs": "ca.pem"})
    assert address.tls == {"ssl_cert_reqs": ssl.CERT_OPTIONAL, "ssl_ca_certs": "ca.pem"}
    assert address.masked().startswith("rediss://")
    assert one("redis://h", use_ssl=True).tls is None


def test_impossible_tls_options_are_refused() -> None:
    with pytest.raises(SettingError, match="ssl_cert_reqs"):
        one("rediss://h?ssl_cert_reqs=maybe")
    with pytest.raises(SettingError, match="keyfile"):
        one("redis://h", use_ssl={"keyfile": "k.pem"})


# Refusals and secrets


@pytest.mark.parametrize(
    "url",
    [
        "",
        ";",
        "h:6379",
        "amqp://u:secret@h",
        "redis://:secret@h:port/0",
        "redis://:secret@h/one",
        "redis://:secret@h/-1",
        "redis://:secret@h?socket_timeout=5",
        "redis://:secret@[h/0",
    ],
)
def test_what_cannot_be_read_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(UrlError) as caught:
        read_urls(url)
    assert "secret" not in repr(caught.value)


def test_an_error_names_the_setting_and_the_option() -> None:
    with pytest.raises(UrlError, match=r"broker_url has 'pyamqp' .* or give -b redis://"):
        read_urls("pyamqp://guest@h//")
    with Producer("redis://h", result_url="rpc://") as producer, pytest.raises(UrlError) as caught:
        producer.handle("x").status  # noqa: B018
    assert "result_backend has 'rpc'" in caught.value.message
    assert "--result-backend redis://" in caught.value.message


@pytest.mark.parametrize(
    "url",
    ["redis://me:secret@h/1", "rediss://:secret@h", "unix://me:secret@/a", "sentinel://:secret@a;sentinel://b"],
)
def test_no_password_is_ever_shown(url: str) -> None:
    endpoint = Endpoint.parse(url, transport_options={"master_name": "m"})
    assert "secret" not in repr(endpoint) + endpoint.masked() + repr(endpoint.addresses)
    assert "**" in endpoint.masked()


# Equality


def test_endpoints_are_equal_if_they_are_the_same_database() -> None:
    assert Endpoint.parse("redis://a:secret@h/1") == Endpoint.parse("redis://h:6379/1")
    assert Endpoint.parse("redis://h/1") != Endpoint.parse("redis://h/2")
    assert Endpoint.parse("redis://h/1") != Endpoint.parse("redis://g/1")
    assert len({Endpoint.parse("redis://h"), Endpoint.parse("redis://:x@h/0")}) == 1


def test_sentinel_needs_the_name_of_its_master() -> None:
    with pytest.raises(SettingError, match="master_name"):
        Endpoint.parse("sentinel://a")


# Credential providers


def test_a_credential_provider_may_be_named() -> None:
    assert one("redis://h?credential_provider=redis.UsernamePasswordCredentialProvider").credential_provider
    endpoint = Endpoint.parse("redis://h?credential_provider=nowhere.Provider")
    with pytest.raises(SettingError, match=r"nowhere\.Provider"):
        endpoint.open()
