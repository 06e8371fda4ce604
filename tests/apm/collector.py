"""A small HTTP server that stands in for what monitoring agents report to, and keeps all that it is sent."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
import zlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

#: What the loopback address is called in the certificate.
HOST = "127.0.0.1"


class Sent(NamedTuple):
    """One request, its body unpacked."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


#: Answers one request with what is to be sent back as JSON.
Answer = Callable[[Sent], Any]


class Collector:
    """`with Collector(...) as it:` listens on `it.port`; `it.sent` is what has come so far."""

    def __init__(self, answer: Answer, *, certificate: Path | None = None) -> None:
        self.sent: list[Sent] = []
        self._answer = answer
        self._server = _Server((HOST, 0), _handler(self))
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.parent / "key.pem")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.certificate = certificate
        self._thread = threading.Thread(target=self._server.serve_forever, name="collector", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'https' if self.certificate else 'http'}://{HOST}:{self.port}"

    def keep(self, sent: Sent) -> bytes:
        """Note a request; the body of the answer."""
        self.sent.append(sent)
        return json.dumps(self._answer(sent)).encode()

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An agent whose process ends cuts its connection; that is no news."""


def _handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def _take(self) -> None:
            address = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = unpacked(self._body(headers), headers.get("content-encoding", ""))
            reply = collector.keep(Sent(address.path, parse_qs(address.query), headers, body))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        do_GET = do_POST = do_PUT = _take

        def _body(self, headers: dict[str, str]) -> bytes:
            if "chunked" not in headers.get("transfer-encoding", ""):
                return self.rfile.read(int(headers.get("content-length", 0)))
            parts: list[bytes] = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Say nothing."""

    return Handler


def unpacked(body: bytes, encoding: str) -> bytes:
    """The body without its compression."""
    if encoding == "br":
        import brotli  # type: ignore[import-untyped, unused-ignore]

        return bytes(brotli.decompress(body))
    if encoding == "gzip":
        return gzip.decompress(body)
    return zlib.decompress(body) if encoding == "deflate" else body
