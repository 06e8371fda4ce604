"""The logical clock of a worker: one more for each thing it says, and later than whatever it has heard."""

from __future__ import annotations


class Lamport:
    """Counts; the engine's thread only."""

    def __init__(self) -> None:
        self.value = 0

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
