"""What happens in the worker, told in the process of the tests, one datagram each: its log records, its received tasks.

Celery's tests look for both where an in-process worker would leave them. A datagram is written in one piece, whichever
process writes it.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import pickle
import socket
import threading
from collections.abc import Callable
from typing import Any

#: Bytes of the largest record that is read.
_LARGEST = 1 << 18


class Sender(logging.handlers.DatagramHandler):
    """Sends every record to the socket at `path`; drops it when nobody listens any more."""

    def __init__(self, path: str) -> None:
        super().__init__(path, None)

    def makePickle(self, record: logging.LogRecord) -> bytes:
        """With its template and arguments, if they can be sent; the traceback as text."""
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        fields = {**record.__dict__, "exc_info": None}
        try:
            return pickle.dumps(fields)
        except Exception:
            return pickle.dumps({**fields, "msg": record.getMessage(), "args": None, "data": None})

    def tell(self, **fields: Any) -> None:
        """Send something that is no record."""
        self.send(pickle.dumps(fields))

    def handleError(self, record: logging.LogRecord) -> None:
        """The worker outlives its listener by a moment."""


class Listener:
    """Calls `heard` with the fields of whatever was sent, in a thread of its own."""

    def __init__(self, path: str, heard: Callable[[dict[str, Any]], None]) -> None:
        self.path, self._heard = path, heard
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._thread = threading.Thread(target=self._listen, daemon=True, name="worker's log")
        self._thread.start()

    def _listen(self) -> None:
        while data := self._socket.recv(_LARGEST):
            self._heard(pickle.loads(data))

    def close(self) -> None:
        """Stop listening. An empty datagram ends the thread."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self.path)
        self._thread.join()
        self._socket.close()
        os.unlink(self.path)
