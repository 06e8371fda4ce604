"""Unique tasks: the key of a call, and the lock that a message under this key has while it waits or runs.

The key travels in a header, so that whoever ends the task knows it, whatever has become of its arguments.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from fastq import clock
from fastq.app.annotations import signature_of
from fastq.errors import OptionError
from fastq.transport.redis.locks import Lock

if TYPE_CHECKING:
    from fastq.app.app import FastQ
    from fastq.app.task import BaseTask, TaskOptions

#: The header with the key.
HEADER: Final = "fastq_unique"

#: Longer keys are hashed.
LONGEST: Final = 120


def check(function: Callable[..., Any], options: TaskOptions, *, name: str) -> None:
    """Raises OptionError for options of a task that mean nothing."""
    if options.unique_for <= 0:
        raise OptionError(f"task {name}: unique_for={options.unique_for!r} is to be seconds, more than none")
    _check_key(function, options.unique, option="unique", name=name)
    most: object = options.max_running
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise OptionError(f"task {name}: max_running={most!r} is to be a number of tasks, 1 or more, or None")
    if options.max_running_key is not None:
        if most is None:
            raise OptionError(
                f"task {name}: max_running_key= says of what there are only so many; say max_running=, too"
            )
        _check_key(function, options.max_running_key, option="max_running_key", name=name)


def _check_key(function: Callable[..., Any], by: object, *, option: str, name: str) -> None:
    if not (isinstance(by, (bool, str)) or callable(by)):
        raise OptionError(f"task {name}: {option}={by!r} is neither True, nor an argument's name, nor a function")
    if isinstance(by, str) and by not in (known := signature_of(function).parameters):
        raise OptionError(f"task {name}: {option}={by!r} is no argument of it; it has {', '.join(known)}")


def mark(task: BaseTask[Any, Any], args: Any, kwargs: Any, chosen: dict[str, Any]) -> None:
    """Put the key among the options of a message, unless the call says unique=False. Raises OptionError."""
    wanted = chosen.pop("unique", None)
    if wanted is False:
        return
    if not task.is_unique:
        raise OptionError(f"task {task.name} is not unique; say so where it is defined: @app.task(unique=...)")
    chosen["headers"] = {**(chosen.get("headers") or {}), HEADER: key_of(task, args, kwargs, by=task.options.unique)}


def lock_for(app: FastQ, task: BaseTask[Any, Any], chosen: Mapping[str, Any]) -> Lock:
    """The lock of a message that `mark` has put a key on."""
    return Lock(lock_key(app, task.name, chosen["headers"][HEADER]), _hold_ms(task, _delay_s(chosen)))


def lock_again(app: FastQ, task: BaseTask[Any, Any], key: str, *, delay_s: float) -> Lock:
    """The same for the next attempt."""
    return Lock(lock_key(app, task.name, key), _hold_ms(task, delay_s))


def lock_key(app: FastQ, name: str, key: str) -> str:
    """Where the lock is on the broker."""
    prefix = app.conf.broker_transport_options.get("global_keyprefix") or ""
    return f"{prefix}fastq:unique:{name}:{key}"


def key_of(
    task: BaseTask[Any, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    by: bool | str | Callable[..., str],
    option: str = "unique",
) -> str:
    """What a call has in common with those that are the same. Raises OptionError if that is no text, and whatever a
    function raises that is to say it."""
    if callable(by):
        found = by(*args, **kwargs)
        if not isinstance(found, str):
            raise OptionError(f"task {task.name}: its {option} function has returned {found!r:.200}, which is no str")
        return _short(found)
    given = _named(task, args, kwargs)
    if given is None:  # whoever runs it will say what is wrong with these arguments
        return _short(_text([list(args), kwargs]))
    if isinstance(by, str):
        value = given[by]
        return _short(value if isinstance(value, str) else _text(value))
    return _short(_text(given)) if given else "-"


def _named(task: BaseTask[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    """All arguments by their names, defaults too: f(1) and f(x=1) are the same."""
    own = (task,) if task.options.bind else ()
    try:
        bound = signature_of(task.function).bind(*own, *args, **kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    found = dict(bound.arguments)
    if own:
        del found[next(iter(found))]
    return found


def _text(value: Any) -> str:
    from fastq.wire.kombu_json import encode_text, encoder, special
    from fastq.wire.plain import with_text_keys

    def ordered(found: Any) -> Any:
        # Each process has an order of its own for the items of a set.
        return sorted(found, key=encode_text) if isinstance(found, (set, frozenset)) else special(found)

    return json.dumps(json.loads(encoder(ordered, mended=with_text_keys)(value)), sort_keys=True)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else hashlib.sha256(text.encode()).hexdigest()


def _hold_ms(task: BaseTask[Any, Any], delay_s: float) -> int:
    return max(1, int((task.options.unique_for + max(0.0, delay_s)) * 1000))


def _delay_s(chosen: Mapping[str, Any]) -> float:
    if chosen.get("countdown"):
        return float(chosen["countdown"])
    eta = chosen.get("eta")
    if not eta:
        return 0.0
    from fastq.wire.moment import parse_iso

    moment = eta if isinstance(eta, datetime) else parse_iso(str(eta))
    aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return aware.timestamp() - clock.now()
