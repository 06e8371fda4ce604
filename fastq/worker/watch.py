"""For development: reload when a Python file of the project changes (`--reload`). Needs watchfiles."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from fastq.errors import OptionError
from fastq.worker.poll import Poller

logger: logging.Logger = logging.getLogger(__name__)

#: Milliseconds in which further changes belong to the same save, checkout or formatting.
TOGETHER_MS = 300


def require_watchfiles() -> Any:
    """The library. Raises OptionError if it is not installed."""
    try:
        import watchfiles
    except ImportError:
        raise OptionError("--reload: needs the package watchfiles; pip install 'fastq[reload]'") from None
    return watchfiles


class FileWatcher:
    """Calls `changed` in the loop when Python files below a folder have changed. `close` may be called twice."""

    def __init__(self, folder: str, *, poller: Poller, changed: Callable[[], None]) -> None:
        self._watchfiles = require_watchfiles()
        self._poller, self._changed = poller, changed
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._end = threading.Event()
        poller.watch(self._wake, self._woken)
        logger.warning("Watching the Python files in %s; this is for development.", folder)
        self._thread = threading.Thread(target=self._watch, args=(folder,), name="fastq-watch", daemon=True)
        self._thread.start()

    def _watch(self, folder: str) -> None:
        only_python = self._watchfiles.PythonFilter()
        found = self._watchfiles.watch(
            folder, watch_filter=only_python, debounce=TOGETHER_MS, stop_event=self._end, rust_timeout=200
        )
        for changes in found:
            names = sorted({os.path.relpath(path, folder) for _change, path in changes})
            logger.warning("Changed: %s", ", ".join(names[:5]) + (" and more" if len(names) > 5 else ""))
            os.eventfd_write(self._wake, 1)

    def _woken(self, _events: int) -> None:
        os.eventfd_read(self._wake)
        self._changed()

    def close(self) -> None:
        if self._end.is_set():
            return
        self._end.set()
        self._thread.join(5)
        self._poller.forget(self._wake)
        os.close(self._wake)
