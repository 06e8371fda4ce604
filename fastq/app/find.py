"""Find the native application that -A names, if it is one; anything else is for Celery's rules."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fastq.errors import ApplicationError, FastqError
from fastq.importing import last_line, look_here_first, place_of

if TYPE_CHECKING:
    from fastq.app.app import FastQ

#: Where an application is looked for in a module, before anything else in it.
_USUAL = ("app", "fastq", "celery")


def find_native(name: str | None) -> FastQ | None:
    """The FastQ object of `module`, `module:attribute` or `module.attribute`; None if there is none.

    What cannot be imported is None as well if Celery is installed, whose rules then say what is wrong; without Celery
    it is an ApplicationError.
    """
    if not name:
        return None
    look_here_first()
    try:
        found = _look(name)
    except (Exception, SystemExit) as error:
        if importlib.util.find_spec("celery") is not None:
            return None
        details = traceback.format_exc()
        message = f"-A {name}: importing it failed: {last_line(error)}{place_of(error)}"
        raise ApplicationError(message, details=details) from error
    if found is None and importlib.util.find_spec("celery") is None:
        raise ApplicationError(f"-A {name}: there is no FastQ application in it; name it as module:attribute")
    return found


def import_tasks(app: FastQ) -> None:
    """Import what registers tasks. Raises ApplicationError with one line; the traceback is its evidence."""
    try:
        app.import_tasks()
    except FastqError:
        raise
    except Exception as error:
        details = traceback.format_exc()
        message = f"importing the tasks of {app.name!r} failed: {last_line(error)}{place_of(error)}"
        raise ApplicationError(message, details=details, exit_code=1) from error


def _look(name: str) -> FastQ | None:
    module_name, colon, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        parent, dot, last = module_name.rpartition(".")
        if colon or not dot or error.name != module_name:  # it is there, and misses something itself
            raise
        module, colon, attribute = importlib.import_module(parent), ":", last
    if "fastq.app.app" not in sys.modules:
        return None
    return _native(_attribute(module, attribute)) if colon else _in_module(module)


def _attribute(module: ModuleType, path: str) -> Any:
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _in_module(module: ModuleType) -> FastQ | None:
    values = vars(module)
    for value in (*(values.get(name) for name in _USUAL), *values.values()):
        found = _native(value)
        if found is not None:
            return found
    return None


def _native(value: Any) -> FastQ | None:
    from fastq.app.app import FastQ

    return value if isinstance(value, FastQ) else None
