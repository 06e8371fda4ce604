"""Where `fastq` begins. A probe must not wait for the import of a command line, so it has a door of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["ping"] and "--help" not in given and _can_look():
        from fastq.cli.ping import ping

        return ping(given[1:])
    from fastq.cli.main import main as whole

    return whole(given)


def _can_look() -> bool:
    try:
        from fastq._core import Segment  # noqa: F401
    except ImportError:
        return False  # and what says so is the whole command line
    return True
