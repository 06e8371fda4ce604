"""Where tasks write down that they ran: one file, one appended line per event, counted afterwards."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

#: Seconds a task waits for its gate before it gives up, so that a failed test leaves no task behind.
GATE_LIMIT_S = 60.0
GATE_PAUSE_S = 0.005


class Ledger:
    """The file of one test: lines "event token pid", each written with a single O_APPEND write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "ledger.txt"

    def write(self, event: str, token: str) -> None:
        """Append one line; atomic among processes because it is one short write."""
        line = f"{event} {token} {os.getpid()}\n".encode()
        fd = os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)

    def lines(self) -> list[tuple[str, str, int]]:
        """Everything written so far, in order: (event, token, pid)."""
        if not self.path.exists():
            return []
        rows = (line.split() for line in self.path.read_text().splitlines())
        return [(event, token, int(pid)) for event, token, pid in rows]

    def tokens(self, event: str) -> list[str]:
        """The tokens of one event, in order."""
        return [token for name, token, _pid in self.lines() if name == event]

    def count(self, event: str, token: str) -> int:
        """How often this happened."""
        return self.tokens(event).count(token)

    def counts(self, event: str) -> Counter[str]:
        """How often each token had this event."""
        return Counter(self.tokens(event))

    def pid_of(self, event: str, token: str) -> int:
        """The process that wrote it first; 0 if nobody did."""
        return next((pid for name, found, pid in self.lines() if (name, found) == (event, token)), 0)

    def open_gate(self, token: str) -> None:
        """Let the task that waits at this gate go on."""
        (self.folder / f"gate-{token}").touch()

    def pass_gate(self, token: str) -> bool:
        """Wait until the gate is open (in a task); False when nobody opened it."""
        gate = self.folder / f"gate-{token}"
        deadline = time.monotonic() + GATE_LIMIT_S
        while not gate.exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(GATE_PAUSE_S)
        return True


def ledger() -> Ledger:
    """The ledger of the test that started this worker."""
    return Ledger(Path(os.environ["FASTQ_TEST_FOLDER"]))
