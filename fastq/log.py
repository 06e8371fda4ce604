"""Write the log as Celery's users know it: its two formats, its levels, its colours.

The engine sets this up for itself. In the nursery and in children the application's own logging decides (Celery's
`setup_logging` signals, `worker_log_format`, ...); of this module they need only the process names.
"""

from __future__ import annotations

import datetime
import json
import logging
import re
import sys
from collections.abc import Callable
from logging.handlers import WatchedFileHandler
from typing import TYPE_CHECKING, TextIO

#: Celery's `worker_log_format` and `worker_task_log_format`.
WORKER_FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
TASK_FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s"

MAIN_NAME = "MainProcess"

LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
    "FATAL": logging.CRITICAL,
}

#: ANSI codes: blue, yellow, red, magenta, as Celery. INFO stays plain.
_COLOURS = {
    logging.DEBUG: "\033[1;34m",
    logging.WARNING: "\033[1;33m",
    logging.ERROR: "\033[1;31m",
    logging.CRITICAL: "\033[1;35m",
}
_RESET = "\033[0m"


def child_name(number: int) -> str:
    """The process name of the child in slot `number`, counted from 1."""
    return f"ForkPoolWorker-{number}"


def name_process(name: str) -> None:
    """Make `name` this process's `processName` in log records."""
    # Records ask multiprocessing, once anybody has imported it; billiard has a name of its own and sees to it itself.
    from multiprocessing import process

    process.current_process().name = name


def level_number(level: str | int) -> int:
    """The number of a level given as a name in any case, or as a number. Raises ValueError."""
    if isinstance(level, int):
        return level
    text = level.strip()
    if text.isdigit():
        return int(text)
    try:
        return LEVELS[text.upper()]
    except KeyError:
        raise ValueError(f"no log level is called {level!r}; there are {', '.join(LEVELS)}, and numbers") from None


def setup(
    level: str | int,
    *,
    logfile: str | None = None,
    format: str | None = None,  # noqa: A002  the name that logging itself uses
    datefmt: str | None = None,
    color: bool | None = None,
    stream: TextIO | None = None,
    as_json: bool = False,
) -> logging.Handler:
    """Send every record of `level` and above to `logfile`, else to stderr. Calling it again replaces the handler.

    `color=None` colours when stderr is a terminal. A log file is opened again after it was rotated. Raises OSError if
    the file cannot be opened.
    """
    handler = _handler(logfile, stream)
    text = Formatter(format or WORKER_FORMAT, datefmt=datefmt, color=_wants_color(color, handler))
    handler.setFormatter(JsonFormatter() if as_json else text)
    root = logging.getLogger()
    _remove_ours(root)
    root.addHandler(handler)
    root.setLevel(level_number(level))
    return handler


#: The password of a URL, between the user's name and the host.
_PASSWORD = re.compile(r"(?P<before>\w://[^/@:?#\s]*:)[^@/?#\s]+(?P<after>@)")


def without_passwords(text: str) -> str:
    """The text with ** for each password in a URL."""
    return _PASSWORD.sub(r"\g<before>**\g<after>", text) if "://" in text else text


class JsonFormatter(logging.Formatter):
    """One JSON object a record, on one line. `task_of` says which task runs now: (name, id), or None."""

    def __init__(self, task_of: Callable[[], tuple[str, str] | None] = lambda: None) -> None:
        super().__init__()
        self._task_of = task_of

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        fields: dict[str, object] = {
            "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "process": record.processName,
            "pid": record.process,
            "logger": record.name,
            "message": without_passwords(record.getMessage()),
        }
        name, identity = self._task(record)
        if identity:
            fields |= {"task_name": name, "task_id": identity}
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = without_passwords(self.formatException(record.exc_info))
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        return json.dumps(fields, ensure_ascii=False, default=str)

    def _task(self, record: logging.LogRecord) -> tuple[object, object]:
        # A record that says itself which task it is about is right; Celery's own have it in `data`.
        facts = vars(record)
        if facts.get("task_id"):
            return facts.get("task_name"), facts["task_id"]
        data = facts.get("data")
        if isinstance(data, dict) and data.get("id"):
            return data.get("name"), data["id"]
        return self._task_of() or (None, None)


class Formatter(logging.Formatter):
    """Format a record, in the colour of its level. A task's format finds `???` where no task is known, as Celery's."""

    def __init__(self, format: str, *, datefmt: str | None = None, color: bool = False) -> None:  # noqa: A002
        super().__init__(format, datefmt, defaults={"task_name": "???", "task_id": "???"})
        self.color = color

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        code = _COLOURS.get(record.levelno) if self.color else None
        return f"{code}{text}{_RESET}" if code else text


if TYPE_CHECKING:
    _TextHandler = logging.StreamHandler[TextIO]
else:
    _TextHandler = logging.StreamHandler  # takes no parameter before Python 3.11


class _StreamHandler(_TextHandler):
    """Ours by class, so that a second set-up finds the handler of the first, and leaves those of others alone."""


class _FileHandler(WatchedFileHandler):
    """Likewise, for a file."""


def _handler(logfile: str | None, stream: TextIO | None) -> logging.Handler:
    if logfile:
        return _FileHandler(logfile, encoding="utf-8")
    return _StreamHandler(stream or sys.__stderr__ or sys.stderr)


def _wants_color(color: bool | None, handler: logging.Handler) -> bool:
    if color is False or not isinstance(handler, _StreamHandler):
        return False
    isatty = getattr(handler.stream, "isatty", None)
    return bool(isatty and isatty())


def _remove_ours(root: logging.Logger) -> None:
    for handler in list(root.handlers):
        if isinstance(handler, (_StreamHandler, _FileHandler)):
            root.removeHandler(handler)
            handler.close()
