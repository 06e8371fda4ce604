"""Expand the name of a worker and the names of its files, as Celery does."""

from __future__ import annotations

import re
import socket

from fastq.errors import OptionError

#: Before the @ where nothing is given.
DEFAULT_NAME = "celery"

_PLACE = re.compile(r"%([%\w])")


def node_name(template: str | None, *, host: str | None = None) -> str:
    """The name `name@host` for a `--hostname`. Text without an @ is a host: `%h` and None give `celery@<host>`.

    In the template %h is the host, %d its domain, %n the host without its domain. Raises OptionError for others.
    """
    name, at, rest = (template or "").partition("@")
    if not at:
        name, rest = "", name
    this_host = host or socket.gethostname()
    full = f"{name or DEFAULT_NAME}@{rest or this_host}"
    return _expand(full, name=this_host.partition(".")[0], host=this_host, child=0)


def checked(template: str) -> str:
    """The template itself, if it expands. Raises OptionError."""
    node_name(template)
    return template


def file_name(template: str, *, node: str, child: int = 0) -> str:
    """The path for a template with %n %h %d, and with %i %I for the number of the child (0 is the main process).

    %i is the number; %I is the number after a dash, and nothing in the main process.
    """
    name, at, host = node.partition("@")
    if not at:
        name, host = DEFAULT_NAME, name
    return _expand(template, name=name or DEFAULT_NAME, host=host, child=child)


def _expand(template: str, *, name: str, host: str, child: int) -> str:
    places = {
        "%": "%",
        "h": host,
        "n": name,
        "d": host.partition(".")[2],
        "i": str(child),
        "I": f"-{child}" if child else "",
    }

    def value(match: re.Match[str]) -> str:
        key = match.group(1)
        if key not in places:
            raise OptionError(f"%{key} in {template!r} stands for nothing; there are %h %n %d %i %I, and %% for a %")
        return places[key]

    return _PLACE.sub(value, template)
