"""Run a command twice, side by side, and end both with this process: for workers that are one process each.

python -m bench.peers.twice COMMAND ...
"""

from __future__ import annotations

import signal
import subprocess
import sys
from types import FrameType


def main(command: list[str]) -> int:
    """Return when both have ended."""
    both = [subprocess.Popen(command) for _ in range(2)]

    def end(number: int, _frame: FrameType | None) -> None:
        for each in both:
            each.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return max(each.wait() for each in both)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
