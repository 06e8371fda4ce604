"""Workers run on Linux, on the compiled core; the rest of fastq runs anywhere. What cannot run here is refused here.

Programs on other systems send tasks, read results and run tasks at once (`app.testing()`).
"""

from __future__ import annotations

import importlib.util
import sys

from fastq.errors import CoreMissing

#: What people call the systems that Python calls otherwise.
_NAMES = {"darwin": "macOS", "win32": "Windows"}


def require(what: str) -> None:
    """Return where workers can run. Raises CoreMissing, which says what was wanted, where, and what to do instead."""
    if sys.platform != "linux":
        here = _NAMES.get(sys.platform, sys.platform)
        raise CoreMissing(
            f"{what} needs Linux, and this is {here}: run it on a Linux host, in a container or a virtual machine; "
            "programs here can send tasks to it and read their results",
            platform=sys.platform,
        )
    if not _has_core():
        raise CoreMissing(
            f"{what} needs fastq's compiled core, which was not built into this installation: install fastq again "
            "without FASTQ_CORE=0, where there is a C compiler",
            platform=sys.platform,
        )


def _has_core() -> bool:
    # In a clone the folder of the core's parts has its name; that is no module and has no origin.
    found = importlib.util.find_spec("fastq._core")
    return found is not None and found.origin is not None
