"""Where modules of an application are imported from, and what is said of an import that fails."""

from __future__ import annotations

import os
import sys
import traceback


def look_here_first() -> None:
    """Import from the current directory before anything else, as `celery -A` does."""
    here = os.getcwd()
    sys.path[:] = [here, *(entry for entry in sys.path if entry not in ("", here))]


def last_line(error: BaseException) -> str:
    """The exception as the last line of a traceback, on one line."""
    return " ".join("".join(traceback.format_exception_only(type(error), error)).split())
