"""Wait for sockets, timers and other threads: the engine's only place to block."""

from __future__ import annotations

import os
import queue
import select
import threading
from collections.abc import Callable
from typing import Any

from fastq import clock

#: Seconds between turns of a loop in which nothing happens: one that makes none for long is taken for stuck.
PULSE_S = 1.0


class Poller:
    """An epoll(7) with a callback for each descriptor."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[int], None]] = {}
        self._forgotten: set[int] = set()

    def watch(self, fd: int, ready: Callable[[int], None], *, write: bool = False) -> None:
        """Call `ready(events)` when `fd` can be read (with `write`: or written)."""
        events = select.EPOLLIN | (select.EPOLLOUT if write else 0)
        if fd in self._ready:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._ready[fd] = ready

    def forget(self, fd: int) -> None:
        """Watch it no more; may be called twice, but before `fd` is closed."""
        if self._ready.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            self._forgotten.add(fd)

    def wait(self, timeout_s: float | None) -> None:
        """Block until something is ready, or the time is over; then call what is ready."""
        found = self._epoll.poll(timeout_s)
        self._forgotten.clear()
        for fd, events in found:
            # An earlier callback may have forgotten it, and its number may be that of another file since: what has come
            # was for the first. What has come for the other is found at the next call.
            if fd not in self._forgotten:
                self._ready[fd](events)

    def close(self) -> None:
        self._epoll.close()


class Timers:
    """Deadlines by name, on the monotonic clock. One of a name at a time."""

    def __init__(self) -> None:
        self._due: dict[str, tuple[float, Callable[[], None]]] = {}

    def set(self, name: str, delay_s: float, call: Callable[[], None]) -> None:
        """Call `call` in `delay_s` seconds, instead of what `name` stood for before."""
        self._due[name] = (clock.monotonic() + delay_s, call)

    def sooner(self, name: str, delay_s: float, call: Callable[[], None]) -> None:
        """As `set`, unless `name` is due earlier already."""
        at = clock.monotonic() + delay_s
        if name not in self._due or self._due[name][0] > at:
            self._due[name] = (at, call)

    def cancel(self, name: str) -> None:
        self._due.pop(name, None)

    def __contains__(self, name: str) -> bool:
        return name in self._due

    def until_next_s(self) -> float | None:
        """Seconds to the next deadline, 0 if it has passed, None if there is none."""
        if not self._due:
            return None
        return max(0.0, min(at for at, _ in self._due.values()) - clock.monotonic())

    def run_due(self) -> None:
        """Call what is due."""
        now = clock.monotonic()
        for name in [name for name, (at, _) in self._due.items() if at <= now]:
            _, call = self._due.pop(name)
            call()


class Errands:
    """Blocking work, done in threads of its own; the outcome is brought back to the loop."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._done: queue.SimpleQueue[tuple[Callable[[Any], None], Any]] = queue.SimpleQueue()
        poller.watch(self._wake, self._bring_back)

    def run(self, work: Callable[[], Any], done: Callable[[Any], None], *, name: str) -> None:
        """Run `work` in a thread, then `done(result)` in the loop; an exception is the result then."""
        threading.Thread(target=self._run, args=(work, done), name=name, daemon=True).start()

    def _run(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        try:
            result = work()
        except Exception as error:
            result = error
        self._done.put((done, result))
        os.eventfd_write(self._wake, 1)

    def _bring_back(self, _events: int) -> None:
        os.eventfd_read(self._wake)
        while not self._done.empty():
            done, result = self._done.get()
            done(result)

    def close(self) -> None:
        self._poller.forget(self._wake)
        os.close(self._wake)
