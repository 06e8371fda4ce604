"""Give an existing Celery application the fast producer, and take it away again.

Three places are changed, all of them on this one application but the last:

- `app.amqp.send_task_message` gets a `Door` in place of the producer that Celery acquired.
- `app.amqp.create_task_message` gets the descriptions of arguments (`argsrepr`, `kwargsrepr`) ready made.
- `group` sends the messages of an accelerated application's group together, rather than one by one.

Nothing else is touched: `delay`, `apply_async` and `send_task` are Celery's own, or whatever agents have made of them.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from celery import canvas
from celery.app import amqp
from kombu.transport.redis import SentinelTransport, Transport

from fastq.compat.celery.describe import broker_urls, use_ssl
from fastq.compat.celery.door import Door, Way, is_plain
from fastq.errors import FastqError, SettingError
from fastq.producer.line import Lines
from fastq.producer.options import Keys
from fastq.transport.connect import Endpoint
from fastq.wire.brief import LEVELS, LIMIT_CHARS, brief

#: Seconds for each step of a connection, where the settings name none.
TIMEOUT_S = 30.0

#: The accelerated applications.
_all: weakref.WeakKeyDictionary[Any, Acceleration] = weakref.WeakKeyDictionary()

#: Set while a worker publishes what follows a task, from Celery 5.7 on.
_callbacks = getattr(amqp, "_callback_publish_retry", None)

_groups_own: Callable[..., Iterator[Any]] = canvas.group._apply_tasks


class Acceleration:
    """What was done to an application. `undo` takes it back; as a context manager it does so at the end."""

    def __init__(self, app: Any, way: Way) -> None:
        self.app: Any = app
        self._way = way
        self._attributes = ("send_task_message", "create_task_message")

    def __enter__(self) -> Acceleration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def undo(self) -> None:
        """Make the application send as Celery does again; may be called twice."""
        if _all.pop(self.app, None) is None:
            return
        for name in self._attributes:
            vars(self.app.amqp).pop(name, None)
        if not _all:
            canvas.group._apply_tasks = _groups_own
        self._way.close()


def accelerate(app: Any) -> Acceleration:
    """Let a Celery application send its tasks by fastq's producer: the same messages, for a fraction of the cost.

    What is not plain (other brokers than Redis, exchanges, fanout, connections or producers given to a call) goes on
    being sent by Celery. Calling it twice is calling it once. Raises SettingError if the broker is not Redis, or is
    set up in a way that only Celery can serve.
    """
    found = _all.get(app)
    if found is not None:
        return found
    way = _way(app)
    acceleration = _all[app] = Acceleration(app, way)
    app.amqp.send_task_message = _sender(way, app.amqp.send_task_message)
    app.amqp.create_task_message = _describing(app, app.amqp.create_task_message)
    canvas.group._apply_tasks = _apply_tasks
    return acceleration


def _way(app: Any) -> Way:
    connection = app.connection_for_write()
    transport = connection.transport_cls
    kind = transport if isinstance(transport, type) else type(connection.transport)
    if kind not in (Transport, SentinelTransport):
        raise SettingError(f"accelerate is for Redis; this application sends to {connection.as_uri()} by {kind!r}")
    options = dict(connection.transport_options or {})
    if options.get("body_encoding", "base64") != "base64":
        raise SettingError(f"accelerate writes body_encoding 'base64' only, not {options['body_encoding']!r}")
    urls = broker_urls(app, connection, app.conf.broker_write_url)
    try:
        endpoint = Endpoint.parse(urls, transport_options=options, use_ssl=use_ssl(app.conf.broker_use_ssl))
    except FastqError as error:
        raise SettingError(f"accelerate cannot use the broker of this application: {error.message}") from error
    timeout_s = options.get("socket_timeout") or TIMEOUT_S
    return Way(app, Lines(endpoint, timeout_s=timeout_s), keys=Keys.from_options(options))


def _sender(way: Way, celerys_own: Callable[..., Any]) -> Callable[..., Any]:
    """Celery's own sender, with a door for a producer."""
    app = way.app

    def send_task_message(producer: Any, name: str, message: Any, *args: Any, **options: Any) -> Any:
        # A worker's callbacks are tried again by Celery, which looks at the errors of its own transport.
        calling_back = _callbacks is not None and _callbacks.get()
        if calling_back or not is_plain(producer, app) or options.get("retry_policy"):
            way.flush()
            return celerys_own(producer, name, message, *args, **options)
        return celerys_own(Door(producer, way), name, message, *args, **options)

    return send_task_message


def _describing(app: Any, celerys_own: Callable[..., Any]) -> Callable[..., Any]:
    """Celery's own maker of messages, spared the descriptions: ours are the same and cost less."""
    if app.conf.task_protocol != 2 or app.conf.task_repr_maxlevels != LEVELS:
        return celerys_own
    if (app.amqp.argsrepr_maxsize, app.amqp.kwargsrepr_maxsize) != (LIMIT_CHARS, LIMIT_CHARS):
        return celerys_own

    def create_task_message(
        task_id: Any, name: Any, args: Any = None, kwargs: Any = None, *rest: Any, **more: Any
    ) -> Any:
        if more.get("argsrepr") is None and isinstance(args or (), (list, tuple)):
            more["argsrepr"] = brief(args or ())
        if more.get("kwargsrepr") is None:
            more["kwargsrepr"] = brief(kwargs or {})
        return celerys_own(task_id, name, args, kwargs, *rest, **more)

    return create_task_message


def _apply_tasks(self: Any, tasks: Any, producer: Any = None, app: Any = None, *args: Any, **more: Any) -> Any:
    """`group._apply_tasks`: one round trip for all messages of an accelerated application's group."""
    acceleration = _all.get(app or self.app)
    if acceleration is None or producer is not None:
        yield from _groups_own(self, tasks, producer, app, *args, **more)
        return
    ids: set[str] = set()
    with acceleration._way.group(ids):
        yield from _groups_own(self, _noting(tasks, ids), producer, app, *args, **more)


def _noting(tasks: Any, ids: set[str]) -> Iterator[Any]:
    """The same tasks, while their groups' ids are noted."""
    for each in tasks:
        ids.add(each[2])
        yield each
