"""The ways to name a Redis: sockets, databases, passwords, users."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_lab import Lab
from tests.fix_proxy import Proxy
from tests.fix_redis import RedisServer

SECRET = "s3cr:t@/%"
QUOTED = "s3cr%3At%40%2F%25"


@pytest.fixture(scope="module")
def locked_server() -> Iterator[RedisServer]:
    """A server with a password, and a user of its own rights."""
    server = RedisServer(password=SECRET)
    server.start()
    client = server.client()
    client.execute_command("ACL", "SETUSER", "worker", "on", f">{SECRET}", "~*", "&*", "+@all", "-@dangerous", "+info")
    client.close()
    yield server
    server.remove()


def check(lab: Lab) -> None:
    """A worker serves and stores over the lab's URLs."""
    lab.worker()
    assert lab.run("add", 20, 22) == 42
    assert lab.run("retry", 1) == 1


def test_unix_socket(lab: Lab) -> None:
    path = lab.db.server.socket_path
    lab.use(broker=f"redis+socket://{path}?virtual_host={lab.db.number}")
    check(lab)


def test_database_number_in_the_path(lab: Lab) -> None:
    assert lab.broker.endswith(f"/{lab.db.number}")
    check(lab)
    assert lab.db.keys("celery-task-meta-*")


def test_tls(tls_port: int, certificate: Path, lab: Lab) -> None:
    tls = f"ssl_cert_reqs=required&ssl_ca_certs={certificate}"
    url = f"rediss://localhost:{tls_port}/{lab.db.number}?{tls}"
    lab.use(broker=url, backend=url)
    check(lab)
    results = [lab.send("add", number, 1) for number in range(300)]
    assert [result.get(timeout=30) for result in results] == [number + 1 for number in range(300)]
    assert lab.run("xsum", list(range(30_000))) == sum(range(30_000))


def test_sentinel(sentinel_port: int, lab: Lab) -> None:
    url = f"sentinel://127.0.0.1:{sentinel_port}/{lab.db.number}"
    named = {"master_name": "mymaster"}
    lab.use(broker=url, backend=url, broker_transport_options=named, result_backend_transport_options=named)
    check(lab)


def test_password(lab: Lab, locked_server: RedisServer) -> None:
    lab.use(broker=f"redis://:{QUOTED}@127.0.0.1:{locked_server.port}/1")
    check(lab)


def test_user_and_password(lab: Lab, locked_server: RedisServer) -> None:
    lab.use(broker=f"redis://worker:{QUOTED}@127.0.0.1:{locked_server.port}/2")
    check(lab)


def test_the_password_is_in_no_log(lab: Lab, locked_server: RedisServer) -> None:
    lab.use(broker=f"redis://:{QUOTED}@127.0.0.1:{locked_server.port}/3")
    worker = lab.worker()
    assert SECRET not in worker.log
    assert QUOTED not in worker.log


def test_broker_and_results_on_different_servers(lab: Lab, locked_server: RedisServer) -> None:
    lab.use(backend=f"redis://:{QUOTED}@127.0.0.1:{locked_server.port}/4")
    check(lab)


def test_a_distant_redis(proxy: Proxy, lab: Lab) -> None:
    proxy.delay(one_way_ms=5)
    lab.use(broker=proxy.url(number=lab.db.number))
    check(lab)


def test_the_environment_overrides_the_application(lab: Lab) -> None:
    worker = lab.worker(
        broker="redis://127.0.0.1:1/0",
        env={"CELERY_BROKER_URL": lab.broker, "CELERY_RESULT_BACKEND": lab.backend},
    )
    assert worker.alive
    assert lab.run("add", 1, 2) == 3
