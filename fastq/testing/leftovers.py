"""Remove what workers of tests have left behind when the test's process was killed: folders, and shared memory.

Nobody restores anything from it, for its broker is gone. What lives is known by its socket, which answers, and by the
lock on its memory; what is younger than a minute is left alone, as it may be in the making.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path

from fastq import clock
from fastq.ipc.segment import remove_forgotten

#: How the folders of memory transports begin, and the names of workers.
FOLDERS, NODES = "fastq-testing-", "testing@"

#: Seconds for which nothing is taken for left behind.
YOUNG_S = 60.0


def remove() -> None:
    """Remove all that is left of tests that are no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDERS}*"):
        if _is_old(folder) and not _answers(folder / "redis.sock"):
            shutil.rmtree(folder, ignore_errors=True)
    remove_forgotten(f"fastq-{NODES}*", after_s=YOUNG_S)


def remove_of(node: str) -> None:
    """Remove the shared memory of one worker that has ended, if it was killed in place of stopped."""
    remove_forgotten(f"fastq-{node}-*", after_s=0)


def _is_old(path: Path) -> bool:
    try:
        return clock.now() - path.stat().st_mtime > YOUNG_S
    except OSError:
        return False


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # busy, or somebody else's: not ours to judge
    return True
