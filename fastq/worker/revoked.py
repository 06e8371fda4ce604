"""Which tasks are not to be run: ids and stamps that somebody has revoked. Bounded, as Celery's sets are.

Celery's rules: an id that is revoked again counts as new; when the set is full the oldest leave, and with them those
that are older than the time to live. Stamps are kept until the worker ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastq import clock

#: Celery's REVOKES_MAX: ids kept in memory.
MOST = 50_000

#: Celery's REVOKE_EXPIRES: seconds after which an id may leave when the set is full.
EXPIRES_S = 10_800.0


class Revoked:
    """Ids with the moment when each was revoked, and stamps by header."""

    def __init__(self, *, most: int = MOST, expires_s: float = EXPIRES_S) -> None:
        self.most: int = most
        self.expires_s: float = expires_s
        self.stamps: dict[str, list[Any]] = {}
        #: Oldest first; the monotonic clock's seconds.
        self._since: dict[str, float] = {}
        #: The same ids as bytes: the compiled intake looks them up in what it has not decoded.
        self.raw: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._since

    @property
    def ids(self) -> list[str]:
        """Oldest first."""
        return list(self._since)

    def add(self, ids: Iterable[str]) -> None:
        """Revoke these, in their order."""
        for task_id in ids:
            self._since.pop(task_id, None)
            self._since[task_id] = clock.monotonic()
            self.raw.add(_encoded(task_id))
            if len(self._since) >= self.most > 0:
                self.purge()

    def purge(self) -> None:
        """Drop what is too much, and what is too old."""
        while self._since and (len(self._since) > self.most > 0 or self._is_old()):
            oldest = next(iter(self._since))
            del self._since[oldest]
            self.raw.discard(_encoded(oldest))

    def _is_old(self) -> bool:
        return 0 < self.expires_s <= clock.monotonic() - next(iter(self._since.values()))

    def add_stamps(self, headers: Mapping[str, Any]) -> None:
        """Revoke whatever carries one of these stamps: {header: stamp or stamps}."""
        for header, stamps in headers.items():
            self.stamps.setdefault(header, []).extend(as_list(stamps))

    def by_stamp(self, stamps: Mapping[str, Any]) -> dict[str, Any] | None:
        """The stamp for which a message with these is revoked, as {header: stamp}; None if it is not."""
        if not self.stamps:
            return None
        for header, carried in stamps.items():
            for stamp in as_list(carried):
                if stamp is not None and stamp in self.stamps.get(header, ()):
                    return {header: stamp}
        return None


def as_list(value: Any) -> list[Any]:
    """One or several: what control commands and stamps may be."""
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def _encoded(task_id: str) -> bytes:
    return task_id.encode("utf-8", "surrogateescape")
