"""Monitoring agents: how an application sets each one up, and how what it sends is read. One module per agent.

Every module has

- `PACKAGES`: what has to be installed, by the names of the index, those first whose versions matter;
- `environment(collector)`: variables of the worker's process;
- `COMMAND`: what the worker is started with, before the program's name;
- `set_up(app)`: what the application does when it is imported;
- `answer(sent)`: what the collector says;
- `read(sent)`: spans and errors in what was sent.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections import Counter
from collections.abc import Iterable
from types import ModuleType

import msgspec


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A span, or an error, in one form for all agents. Empty: the agent does not tell."""

    #: "run", "publish", "error", or the agent's own word.
    kind: str
    name: str
    status: str = ""
    error: str = ""
    id: str = ""
    parent: str = ""
    trace: str = ""
    task_id: str = ""


def named(name: str) -> ModuleType:
    """The module of an agent."""
    return importlib.import_module(f"tests.apm.agents.{name}")


def missing(agent: ModuleType) -> list[str]:
    """Which of its packages are not installed."""
    return [package for package in agent.PACKAGES if not is_installed(package)]


def is_installed(package: str) -> bool:
    """Whether a package of the index is there."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def picture(seen: Iterable[Seen]) -> Counter[str]:
    """What was seen without the numbers that differ from run to run: each thing under the thing it belongs to."""
    everything = list(seen)
    by_id = {thing.id: thing for thing in everything if thing.id}
    return Counter(_line(thing, by_id) for thing in everything)


def _line(thing: Seen, by_id: dict[str, Seen]) -> str:
    words = [thing.kind, thing.name, thing.status, thing.error]
    text = " ".join(word for word in words if word)
    above = by_id.get(thing.parent)
    if above is not None and above is not thing:
        return f"{text} < {_line(above, by_id)}"
    return f"{text} < (elsewhere)" if thing.parent else text
