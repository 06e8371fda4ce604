"""The logical clock of a mailbox: one more for each thing it says, and later than whatever it has heard.

The worker's own is in the shared segment, where its children see it. kombu's mailboxes have one beside that.
"""

from __future__ import annotations

from fastq import _core


class Lamport:
    """Counts; the engine's thread only."""

    def __init__(self) -> None:
        self.value: int = 0

    def __repr__(self) -> str:
        return f"<Lamport {self.value}>"

    def forward(self) -> int:
        """Something is said: its time."""
        self.value += 1
        return self.value

    def adjust(self, heard: int) -> int:
        """Something with this time was heard: ours is later now."""
        self.value = max(self.value, heard) + 1
        return self.value


class SharedLamport:
    """The worker's own, which its children tick, too: it lies in the shared segment."""

    def __init__(self, segment: _core.Segment) -> None:
        self._segment = segment

    def __repr__(self) -> str:
        return f"<SharedLamport {self.value}>"

    @property
    def value(self) -> int:
        """The time now."""
        return self._segment.clock

    def forward(self) -> int:
        """Something is said: its time."""
        return self._segment.tick()

    def adjust(self, heard: int) -> int:
        """Something with this time was heard: ours is later now."""
        return self._segment.adjust(heard)
