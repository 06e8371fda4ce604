"""Connections that a real server accepts or refuses: TCP, unix socket, TLS, sentinel, users, databases."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fastq.errors import BrokerRefused, BrokerUnavailable, SettingError
from fastq.transport.connect import RESULT_STORE, Endpoint, OpenConnection
from fastq.transport.urls import read_urls
from tests.fix_redis import Database, RedisServer, free_port


@pytest.fixture(scope="module")
def closed_server() -> Iterator[RedisServer]:
    """A server that asks for a password."""
    server = RedisServer(password="s3cret/word")
    server.start()
    yield server
    server.remove()


def ask(opened: OpenConnection, command: str) -> bytes:
    """Send one inline command on the raw socket."""
    opened.sock.sendall(command.encode() + b"\r\n")
    return opened.sock.recv(4096)


def check_database(endpoint: Endpoint, db: Database) -> None:
    """The socket, the client and the test see the same database."""
    with closing(endpoint.open(2.0, "fastq test")) as opened:
        assert ask(opened, "SET from-the-socket 1") == b"+OK\r\n"
        assert ask(opened, "CLIENT GETNAME") == b"$10\r\nfastq_test\r\n"
    assert db.client.get("from-the-socket") == b"1"
    with closing(endpoint.client()) as client:
        assert client.get("from-the-socket") == b"1"


# Ways


def test_tcp_with_a_database(db: Database) -> None:
    check_database(Endpoint.parse(db.url), db)


def test_unix_socket_with_a_database(db: Database) -> None:
    path = db.server.socket_path
    check_database(Endpoint.parse(f"redis+socket://{path}?virtual_host={db.number}"), db)


def test_the_socket_is_the_callers_alone(db: Database) -> None:
    opened = Endpoint.parse(db.url).open()
    assert opened.fileno() == opened.sock.fileno() >= 0
    assert opened.sock.gettimeout() is None
    assert not opened.is_tls
    assert ask(opened, "PING") == b"+PONG\r\n"
    opened.close()
    opened.close()


def test_the_next_url_is_tried_and_kept(db: Database) -> None:
    endpoint = Endpoint.parse(f"redis://127.0.0.1:{free_port()}/9;{db.url}")
    check_database(endpoint, db)
    assert endpoint.db == db.number


# Users


def test_password(closed_server: RedisServer) -> None:
    url = f"redis://:s3cret%2Fword@127.0.0.1:{closed_server.port}/1"
    with closing(Endpoint.parse(url).open()) as opened:
        assert ask(opened, "PING") == b"+PONG\r\n"


@pytest.mark.parametrize("who", ["", ":wr0ng@", "nobody:s3cret%2Fword@", "default@"])
def test_a_wrong_password_is_refused_in_one_sentence_without_it(closed_server: RedisServer, who: str) -> None:
    endpoint = Endpoint.parse(f"redis://{who}127.0.0.1:{closed_server.port}/1")
    with pytest.raises(BrokerRefused, match="does not accept this user and password") as caught:
        endpoint.open()
    assert "wr0ng" not in repr(caught.value)
    assert "s3cret" not in repr(caught.value)


def test_a_password_that_the_server_does_not_ask_for_is_refused(db: Database) -> None:
    with pytest.raises(BrokerRefused) as caught:
        Endpoint.parse(f"redis://:s3cret@127.0.0.1:{db.server.port}/0").open()
    assert "s3cret" not in repr(caught.value)


def test_a_user_of_an_acl_who_may_do_little(closed_server: RedisServer) -> None:
    admin: Any = closed_server.client()
    admin.execute_command("ACL", "SETUSER", "narrow", "on", ">pw", "~celery*", "+lmove", "+llen", "+select")
    admin.close()
    endpoint = Endpoint.parse(f"redis://narrow:pw@127.0.0.1:{closed_server.port}/1")
    with closing(endpoint.open(2.0, "named")) as opened:
        assert ask(opened, "LLEN celery") == b":0\r\n"
        assert ask(opened, "PING").startswith(b"-NOPERM")


# Refused and not there


def test_a_database_that_is_not_there_is_refused(redis_server: RedisServer) -> None:
    with pytest.raises(BrokerRefused, match="no database 99999"):
        Endpoint.parse(f"redis://127.0.0.1:{redis_server.port}/99999").open()


def test_what_is_wrong_with_the_result_store_is_not_said_of_the_broker(redis_server: RedisServer) -> None:
    addresses = read_urls(f"redis://127.0.0.1:{redis_server.port}/99999")
    with pytest.raises(BrokerRefused, match=r"the result store .* smaller number in result_backend"):
        Endpoint(addresses, role=RESULT_STORE).open()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{port}", "unix:///no/such.sock", "redis://no-such-host.invalid"])
def test_nobody_there_is_worth_another_try(url: str) -> None:
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        Endpoint.parse(url.format(port=free_port())).open(1.0)


def test_a_server_that_does_not_answer_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(BrokerUnavailable, match="cannot be reached"):
            Endpoint.parse(f"redis://127.0.0.1:{silent.getsockname()[1]}").open(0.2)


def test_a_server_that_is_loading_is_worth_another_try() -> None:
    with answering(b"-LOADING Redis is loading the dataset in memory\r\n") as port:
        with pytest.raises(BrokerUnavailable):
            Endpoint.parse(f"redis://127.0.0.1:{port}").open(1.0)


def test_something_else_than_redis_is_told() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        with pytest.raises(BrokerUnavailable):
            Endpoint.parse(f"redis://127.0.0.1:{port}").open(1.0)


def test_all_of_several_urls_failing_tells_all(db: Database) -> None:
    first, second = free_port(), free_port()
    with pytest.raises(BrokerUnavailable, match=rf"{first}.*{second}"):
        Endpoint.parse(f"redis://127.0.0.1:{first};redis://127.0.0.1:{second}").open(1.0)


def test_an_option_of_the_wrong_type_is_a_setting_error() -> None:
    endpoint = Endpoint.parse("redis://", transport_options={"socket_timeout": "soon"})
    with pytest.raises(SettingError, match="socket_timeout = 'soon'"):
        endpoint.open()


class answering:
    """A server that says one thing to everybody."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self._serve)

    def __enter__(self) -> int:
        self.thread.start()
        return int(self.listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self.thread.join(5)
        self.listener.close()

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(self.answer)
            connection.recv(4096)


# TLS


def test_tls_that_trusts_the_certificate(tls_port: int, certificate: Path, db: Database) -> None:
    url = f"rediss://localhost:{tls_port}/{db.number}?ssl_cert_reqs=required&ssl_ca_certs={certificate}"
    opened = Endpoint.parse(url).open()
    assert opened.is_tls
    assert ask(opened, "SET over-tls 1") == b"+OK\r\n"
    opened.close()
    assert db.client.get("over-tls") == b"1"


def test_tls_by_broker_use_ssl(tls_port: int, certificate: Path) -> None:
    use_ssl: dict[str, Any] = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": str(certificate)}
    with closing(Endpoint.parse(f"redis://localhost:{tls_port}", use_ssl=use_ssl).open()) as opened:
        assert opened.is_tls


def test_tls_without_options_verifies_nothing(tls_port: int) -> None:
    with closing(Endpoint.parse(f"rediss://127.0.0.1:{tls_port}").open()) as opened:
        assert ask(opened, "PING") == b"+PONG\r\n"


def test_a_certificate_that_is_not_trusted_is_refused(tls_port: int) -> None:
    with pytest.raises(BrokerRefused, match="not trusted"):
        Endpoint.parse(f"rediss://localhost:{tls_port}?ssl_cert_reqs=required").open()


def test_a_file_that_is_missing_is_a_setting_error(tls_port: int) -> None:
    with pytest.raises(SettingError, match="missing"):
        Endpoint.parse(f"rediss://localhost:{tls_port}?ssl_ca_certs=/no/such.pem").open()


# Sentinel


def test_sentinel_leads_to_the_master(sentinel_port: int, db: Database) -> None:
    url = f"sentinel://127.0.0.1:{sentinel_port}/{db.number};sentinel://127.0.0.1:{free_port()}"
    check_database(Endpoint.parse(url, transport_options={"master_name": "mymaster"}), db)


def test_a_master_that_no_sentinel_knows_is_worth_another_try(sentinel_port: int) -> None:
    options = {"master_name": "other", "sentinel_kwargs": {"socket_timeout": 1}}
    with pytest.raises(BrokerUnavailable, match="knows a master"):
        Endpoint.parse(f"sentinel://127.0.0.1:{sentinel_port}", transport_options=options).open(1.0)


def test_a_server_that_does_not_say_a_connections_number_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    opened = OpenConnection(ours, address=read_urls("redis://127.0.0.1:1/0")[0])
    with ours, theirs, pytest.raises(BrokerUnavailable, match=r"lost the connection to redis:.*timed out"):
        opened.client_id(timeout_s=0.05)
