"""A stream whose other end is the test."""

from __future__ import annotations

from fastq import _core


class LooseEnd:
    """What was sent, by command; what is fed to `reader`, as if it had arrived."""

    def __init__(self) -> None:
        self.reader = _core.Reader()
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        """Keep it."""
        self.sent.append(data)

    def receive(self) -> None:
        """What was fed is there already."""

    def count(self, word: bytes) -> int:
        """How many sends have this word."""
        return sum(word in data for data in self.sent)
