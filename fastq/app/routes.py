"""Decide to which queue a task goes: what its call says, else the routes, else the task, else the default queue.

`task_routes` is Celery's: a mapping from names or patterns to options, a function, or a list of both. The first that
has an answer wins.

    {"video.*": {"queue": "video"}, "mail.send": "mail"}
    def route(name, args, kwargs, options, task=None): return {"queue": "slow"} or None
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Mapping
from typing import Any

from fastq.errors import SettingError

#: What a route may decide.
_OPTIONS = (
    "queue",
    "priority",
    "routing_key",
    "expires",
    "time_limit",
    "soft_time_limit",
    "ignore_result",
    "countdown",
)


def route(routes: Any, name: str, *, args: Any, kwargs: Any, options: Mapping[str, Any], task: Any) -> dict[str, Any]:
    """What the routes say of this call; {} if none has an answer. Raises SettingError for a route that is none."""
    if not routes:
        return {}
    for one in routes if isinstance(routes, (list, tuple)) else (routes,):
        found = _ask(one, name, args=args, kwargs=kwargs, options=options, task=task)
        if found is not None:
            return _checked(found, name)
    return {}


def _ask(one: Any, name: str, *, args: Any, kwargs: Any, options: Mapping[str, Any], task: Any) -> Any:
    if isinstance(one, Mapping):
        return _look_up(one, name)
    if callable(one):
        return one(name, args, kwargs, options, task=task)
    raise SettingError(f"task_routes: a route is a mapping or a function, not {one!r}")


def _look_up(table: Mapping[Any, Any], name: str) -> Any:
    if name in table:
        return table[name]
    for pattern, found in table.items():
        matches = pattern.match(name) if isinstance(pattern, re.Pattern) else _pattern(pattern).match(name)
        if matches:
            return found
    return None


@functools.lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(text))


def _checked(found: Any, name: str) -> dict[str, Any]:
    decided = {"queue": found} if isinstance(found, str) else dict(found)
    unknown = [option for option in decided if option not in _OPTIONS]
    if unknown:
        raise SettingError(f"task_routes: the route of {name!r} has {unknown[0]!r}; it can have {', '.join(_OPTIONS)}")
    key = decided.pop("routing_key", None)
    return {"queue": key, **decided} if key and "queue" not in decided else decided


def queues_of(routes: Any) -> list[str]:
    """The queues that mappings among the routes name, in their order: a worker without -Q consumes them too."""
    found: list[str] = []
    for one in routes if isinstance(routes, (list, tuple)) else (routes or {},):
        for value in one.values() if isinstance(one, Mapping) else ():
            queue = value if isinstance(value, str) else dict(value).get("queue") or dict(value).get("routing_key")
            if queue and queue not in found:
                found.append(queue)
    return found
