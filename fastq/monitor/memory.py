"""How much memory processes have for themselves: proportional set size, which counts a shared page by its sharers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fastq import clock
from fastq.config.groups import field

#: Seconds for which a look is good. Adding up the pages of a process takes the kernel a millisecond per hundred MB, and
#: the process must not fault meanwhile.
KEPT_S = 15.0


def pss_bytes(pid: int) -> int | None:
    """The proportional set size of a process; None if it is gone or not ours to see."""
    kib = field(Path(f"/proc/{pid}/smaps_rollup"), "Pss")
    return None if kib is None else kib << 10


class Memory:
    """Looks at processes when somebody asks, and not more often than every KEPT_S seconds."""

    def __init__(self) -> None:
        #: Bytes, and when they were looked up.
        self._known: dict[int, tuple[int, float]] = {}

    def of(self, pids: Iterable[int]) -> dict[int, int]:
        """Bytes by process id, of those that live."""
        now_s = clock.monotonic()
        self._known = {pid: known for pid, known in self._known.items() if now_s - known[1] < KEPT_S}
        wanted = list(pids)
        for pid in wanted:
            if pid not in self._known and (size := pss_bytes(pid)) is not None:
                self._known[pid] = (size, now_s)
        return {pid: self._known[pid][0] for pid in wanted if pid in self._known}
