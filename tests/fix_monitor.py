"""Everything a Redis server is told about one database, by its own MONITOR."""

from __future__ import annotations

import re
import socket
import threading
from types import TracebackType

from tests.eventually import eventually
from tests.fix_redis import Database

_LINE = re.compile(rb"^\+[\d.]+ \[(\d+) [^\]]*\] (.*)$")
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')


class Monitor:
    """Collect the commands on a database while the `with` block runs."""

    def __init__(self, db: Database) -> None:
        self.number = db.number
        self.commands: list[list[str]] = []
        self._socket = socket.create_connection(("127.0.0.1", db.server.port))
        self._thread = threading.Thread(target=self._read, name="monitor", daemon=True)
        self._heard = threading.Event()

    def __enter__(self) -> Monitor:
        self._socket.sendall(b"MONITOR\r\n")
        self._thread.start()
        eventually(self._heard.is_set)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()

    def _read(self) -> None:
        for line in self._socket.makefile("rb"):
            self._heard.set()
            found = _LINE.match(line.rstrip(b"\r\n"))
            if found and int(found[1]) == self.number:
                self.commands.append([_unescape(word) for word in _WORD.findall(found[2])])

    def told(self, *names: str) -> list[list[str]]:
        """The commands of these names, in order."""
        return [command for command in list(self.commands) if command and command[0].upper() in names]


def _unescape(word: bytes) -> str:
    return word.decode("unicode_escape").encode("latin-1").decode("utf-8", "backslashreplace")
