"""Redis behind TLS and behind a sentinel."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastq.embedded import find_server
from tests.eventually import eventually
from tests.fix_redis import RedisServer, free_port


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of localhost, with its key beside it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on PATH to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    made = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([openssl, "req", *made, *names, *files], check=True, capture_output=True, timeout=60)
    return folder / "cert.pem"


@pytest.fixture(scope="module")
def tls_port(certificate: Path, redis_server: RedisServer) -> Iterator[int]:
    """A port that speaks TLS and passes everything on to the server of the session: the bundled one has no TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.parent / "key.pem")
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_end_tls, args=(listener, context, redis_server.port), daemon=True)
    thread.start()
    yield int(listener.getsockname()[1])
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def _end_tls(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            raw, _ = listener.accept()
            threading.Thread(target=_serve, args=(raw, context, port), daemon=True).start()


def _serve(raw: socket.socket, context: ssl.SSLContext, port: int) -> None:
    # The near side is only read by one thread and only written by the other, which OpenSSL allows after the handshake.
    with contextlib.suppress(OSError), raw, context.wrap_socket(raw, server_side=True) as near:
        with socket.create_connection(("127.0.0.1", port)) as far:
            back = threading.Thread(target=_pass_on, args=(far, near), daemon=True)
            back.start()
            _pass_on(near, far)
            back.join(10)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def sentinel_port(redis_server: RedisServer, tmp_path: Path) -> Iterator[int]:
    """A sentinel that watches the server of the session as `mymaster`."""
    server = find_server()
    assert server
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor mymaster 127.0.0.1 {redis_server.port} 1\n"
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([server, str(config), "--sentinel"], stdout=log, stderr=log)
    eventually(lambda: _listens(port), saying="the sentinel listens")
    yield port
    process.terminate()
    process.wait(10)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
