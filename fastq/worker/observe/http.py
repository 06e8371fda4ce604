"""Serve pages over HTTP from a thread of its own, so that a probe is answered also when the engine's loop is stuck.

It knows just enough of HTTP/1.1 for probes, scrapers and curl: GET and HEAD, one request a connection. A client that is
slow or says nothing costs a descriptor for some seconds, and nothing else.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from fastq import clock
from fastq.config.values import Listen
from fastq.errors import OptionError
from fastq.worker.observe.pages import TEXT, Page

logger: logging.Logger = logging.getLogger(__name__)

#: Bytes of a request's head, seconds that a client may take, clients at a time.
HEAD_BYTES, CLIENT_S, CLIENTS = 8192, 5.0, 64


def listen(where: Listen) -> socket.socket:
    """A socket that is bound and listens. Raises OptionError: the address is in use, or is none of this host."""
    family = socket.AF_UNIX if where.path else socket.AF_INET6 if ":" in where.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if where.path:
            _bind_path(sock, where.path)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((where.host, where.port))
        sock.listen(CLIENTS)
    except OSError as error:
        sock.close()
        raise OptionError(f"--http: cannot listen on {where}: {error.strerror or error}", value=str(where)) from error
    sock.setblocking(False)
    if not where.is_private:
        logger.warning("Probes and metrics are served on %s, to everybody who can reach this address.", where)
    return sock


def _bind_path(sock: socket.socket, path: str) -> None:
    # A socket that nobody listens on any more was left by a worker that was killed.
    if Path(path).is_socket() and not _answers(path):
        os.unlink(path)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(before)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


class Client:
    """One connection: its request as far as it has come, its answer as far as it has not gone."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock: socket.socket = sock
        self.until_s: float = clock.monotonic() + CLIENT_S
        self.read: bytes = b""
        self.unsent: bytes = b""

    def receive(self) -> bool:
        """True when the head of a request is there, whole or too long."""
        data = self.sock.recv(HEAD_BYTES)
        if not data:
            raise ConnectionError("closed")
        self.read += data
        return b"\r\n\r\n" in self.read or len(self.read) >= HEAD_BYTES

    def send(self) -> bool:
        """True when everything has been sent."""
        self.unsent = self.unsent[self.sock.send(self.unsent) :]
        return not self.unsent


class Server:
    """Serves until `close`, in a daemon thread."""

    def __init__(self, sock: socket.socket, *, get: Callable[[str], Page]) -> None:
        self._sock, self._get = sock, get
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ, None)
        self._path = sock.getsockname() if sock.family == socket.AF_UNIX else ""
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="fastq-http", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port, for one that was chosen by the system."""
        return int(self._sock.getsockname()[1])

    def close(self) -> None:
        """Serve no more; may be called twice."""
        if not self._closed:
            self._closed = True
            if self._path:
                Path(self._path).unlink(missing_ok=True)
            self._sock.close()

    def _serve(self) -> None:
        while not self._closed:
            for key, _events in self._selector.select(1.0):
                if key.data is None:
                    self._accept()
                else:
                    self._go_on(key.data)
            self._drop_late()

    def _accept(self) -> None:
        try:
            sock, _address = self._sock.accept()
        except OSError:
            return  # closed, or the client is gone
        if len(self._selector.get_map()) > CLIENTS:
            sock.close()
            return
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, Client(sock))

    def _go_on(self, client: Client) -> None:
        try:
            if not client.unsent:
                if not client.receive():
                    return
                client.unsent = self._answer(client.read)
            if client.send():
                self._drop(client)
            else:
                self._selector.modify(client.sock, selectors.EVENT_WRITE, client)
        except BlockingIOError:
            self._selector.modify(client.sock, selectors.EVENT_WRITE, client)
        except OSError:
            self._drop(client)

    def _answer(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].split()
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return response(Page(400, TEXT, b"not a request of HTTP/1\n"))
        method, path = words[0].decode("latin-1"), words[1].decode("latin-1")
        if method not in ("GET", "HEAD"):
            return response(Page(405, TEXT, b"only GET and HEAD\n"))
        try:
            page = self._get(path)
        except Exception as error:
            logger.exception("The page %s could not be made", path)
            page = Page(500, TEXT, f"{type(error).__name__}: {error}\n".encode())
        return response(page, body=method == "GET")

    def _drop_late(self) -> None:
        now_s = clock.monotonic()
        for key in list(self._selector.get_map().values()):
            if key.data is not None and key.data.until_s < now_s:
                self._drop(key.data)

    def _drop(self, client: Client) -> None:
        self._selector.unregister(client.sock)
        client.sock.close()


def response(page: Page, *, body: bool = True) -> bytes:
    """The bytes of an answer; without its body for HEAD."""
    head = (
        f"HTTP/1.1 {page.code} {HTTPStatus(page.code).phrase}\r\n"
        f"Content-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (page.body if body else b"")
