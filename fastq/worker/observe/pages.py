"""The pages that a worker serves: three probes, metrics, and what runs now. All from shared memory."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping

import msgspec

import fastq
from fastq.ipc.segment import SharedSegment
from fastq.monitor import openmetrics
from fastq.monitor.local import LocalWorker
from fastq.monitor.memory import Memory
from fastq.monitor.snapshot import take
from fastq.monitor.status import status

TEXT = "text/plain; charset=utf-8"


class Page(msgspec.Struct, frozen=True):
    """An answer."""

    code: int
    content_type: str
    body: bytes


class Pages:
    """Answers for one worker. It may be asked by any thread, and it asks nobody: neither loop nor broker."""

    def __init__(self, segment: SharedSegment) -> None:
        self._worker = LocalWorker(segment)
        self._memory = Memory()
        self._pages: Mapping[str, Callable[[], Page]] = {
            "/livez": lambda: _probe(self._worker.why_not_live()),
            "/readyz": lambda: _probe(self._worker.why_not_ready()),
            "/startupz": lambda: _probe(self._worker.why_not_started()),
            "/metrics": self._metrics,
            "/status.json": self._status,
        }

    def get(self, path: str) -> Page:
        """The page of a path; one that lists them for any other."""
        make = self._pages.get(path.partition("?")[0])
        if make is None:
            return Page(404, TEXT, f"there are {' '.join(self._pages)}\n".encode())
        return make()

    def _metrics(self) -> Page:
        snapshot = take(self._worker)
        pids = [snapshot.pid, snapshot.figures["nursery_pid"], *(child.pid for child in snapshot.children)]
        text = openmetrics.render(
            snapshot,
            version=fastq.__version__,
            python=platform.python_version(),
            memory=self._memory.of(pid for pid in pids if pid),
        )
        return Page(200, openmetrics.CONTENT_TYPE, text.encode())

    def _status(self) -> Page:
        snapshot = take(self._worker)
        memory = self._memory.of(child.pid for child in snapshot.children if child.pid)
        found = status(snapshot, version=fastq.__version__, memory=memory)
        return Page(200, "application/json", msgspec.json.encode(found) + b"\n")


def _probe(why_not: str) -> Page:
    return Page(503, TEXT, f"{why_not}\n".encode()) if why_not else Page(200, TEXT, b"ok\n")
