"""The worker's log records, as records, in the process of the tests: one datagram each.

Celery's tests read what an in-process worker logs. A datagram is written in one piece, whichever process writes it.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import pickle
import socket
import threading
from collections.abc import Callable

#: Bytes of the largest record that is read.
_LARGEST = 1 << 18


class Sender(logging.handlers.DatagramHandler):
    """Sends every record to the socket at `path`; drops it when nobody listens any more."""

    def __init__(self, path: str) -> None:
        super().__init__(path, None)

    def handleError(self, record: logging.LogRecord) -> None:
        """The worker outlives its listener by a moment."""


class Listener:
    """Calls `heard` for every record, in a thread of its own."""

    def __init__(self, path: str, heard: Callable[[logging.LogRecord], None]) -> None:
        self.path, self._heard = path, heard
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._thread = threading.Thread(target=self._listen, daemon=True, name="worker's log")
        self._thread.start()

    def _listen(self) -> None:
        while data := self._socket.recv(_LARGEST):
            self._heard(logging.makeLogRecord(pickle.loads(data[4:])))

    def close(self) -> None:
        """Stop listening. An empty datagram ends the thread."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self.path)
        self._thread.join()
        self._socket.close()
        os.unlink(self.path)
