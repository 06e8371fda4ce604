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


def place_of(error: BaseException) -> str:
    """Where in the application it was raised, as " (file:line)"; "" if that is no line of its own."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [one for one in frames if "importlib" not in one.filename and not one.filename.startswith(_OURS)]
    return f" ({theirs[-1].filename}:{theirs[-1].lineno})" if theirs else ""


#: Where this package is.
_OURS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
