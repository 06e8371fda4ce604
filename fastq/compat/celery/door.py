"""Publish an application's plain messages on the fast way, and everything else on kombu's.

A `Door` stands in for the kombu producer that Celery publishes with. Celery and kombu do what they always do: routes,
signals, events, serialization, compression, and whatever agents have put around `kombu.Producer.publish`. Only where
kombu would hand a finished message to its Redis channel, a plain one is written to a connection of fastq's instead.

Plain is a message for one classic queue by way of the default exchange, on the application's own connection pool.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

import os
import threading
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import kombu
from celery import signals
from kombu.exceptions import OperationalError
from kombu.utils.json import JSONEncoder

from fastq.errors import BrokerError
from fastq.producer.compose import Push
from fastq.producer.ids import uuids
from fastq.producer.line import Lines
from fastq.wire.kombu_json import encoder

if TYPE_CHECKING:
    from fastq.producer.options import Keys
    from fastq.untyped import Untyped as KombuProducer
else:
    KombuProducer = kombu.Producer

#: What kombu's JSON writes, types that the application has registered included.
_encode = encoder(JSONEncoder().default)

#: Arguments of kombu's `publish` that a plain message has none of.
_UNUSUAL = ("mandatory", "immediate", "content_type", "content_encoding", "timeout", "confirm_timeout")

#: Messages of a group that are sent together.
CHUNK = 500

_publish = kombu.Producer.publish

#: Attempts of a retry policy without a limit; Celery tries for ever.
_FOR_EVER = 1_000_000_000


class _Group(threading.local):
    """The messages of the group that this thread is sending; their group ids, while there is one."""

    ids: set[str] | None = None
    pushes: Sequence[Push] = ()


class Way:
    """The fast way of one application to its broker. Threads share it, children of a fork make connections anew."""

    def __init__(self, app: Any, lines: Lines, *, keys: Keys) -> None:
        self.app = app
        self.keys = keys
        self._lines = lines
        self._declared: set[str] = set()
        self._pid = os.getpid()
        self._group = _Group()

    def is_declared(self, queue: str) -> bool:
        """Tell whether kombu has declared a queue in this process: it does when the first message for it is sent."""
        if self._pid != os.getpid():
            self._pid, self._declared = os.getpid(), set()
        return queue in self._declared

    def declared(self, queue: str) -> None:
        """Note that kombu has."""
        self._declared.add(queue)

    @contextmanager
    def group(self, ids: set[str]) -> Iterator[None]:
        """Collect the messages of these groups, and send them together in the end: also those before an error, as
        they would have been sent one by one."""
        if self._group.ids is not None:  # a group in a group: the outer one collects both
            self._group.ids |= ids
            yield
            return
        self._group.ids, self._group.pushes = ids, []
        try:
            yield
        finally:
            self._group.ids = None
            self.flush()

    def flush(self) -> None:
        """Send what was collected. Raises OperationalError."""
        pushes, self._group.pushes = self._group.pushes, ()
        if pushes:
            self._send(_joined(pushes), attempts=3)
        if self._group.ids is not None:
            self._group.pushes = []

    def push(self, push: Push, *, group: object, attempts: int) -> None:
        """Send a message, or keep it for the end of its group. Raises OperationalError."""
        collected = self._group.pushes
        if isinstance(collected, list) and group in (self._group.ids or ()) and not _is_watched():
            collected.append(push)
            return self.flush() if len(collected) >= CHUNK else None
        if collected:
            self.flush()
        self._send([push], attempts=attempts)
        return None

    def _send(self, pushes: Sequence[Push], *, attempts: int) -> None:
        post = self._lines.post(pushes, retries=attempts)
        self._lines.deliver(post)
        try:
            post.finish()
        except BrokerError as error:
            # What Celery's callers know.
            raise OperationalError(error.message) from error

    def close(self) -> None:
        """Let the connections go."""
        self._lines.close()


def _is_watched() -> bool:
    """Tell whether somebody wants to see each message just before or after it was sent: then it is sent just then."""
    publish = kombu.Producer.publish
    return bool(signals.after_task_publish.receivers) or publish is not _publish or hasattr(publish, "__wrapped__")


def _joined(pushes: Iterable[Push]) -> list[Push]:
    """One push for each run of messages with the same key."""
    found: list[Push] = []
    for push in pushes:
        if found and found[-1].key == push.key:
            found[-1].messages.extend(push.messages)
            found[-1].ids.extend(push.ids)
        else:
            found.append(push)
    return found


class Door(KombuProducer):
    """A kombu producer whose plain messages go the fast way. `real` publishes the others."""

    def __init__(self, real: Any, way: Way) -> None:
        # No `super().__init__`: it would open a channel. This is what `publish` reads.
        self._real, self._way = real, way
        self._channel = None
        self.__connection__: Any = real.__connection__
        self.exchange: Any = real.exchange
        self.routing_key: Any = real.routing_key
        self.serializer: Any = real.serializer
        self.compression: Any = real.compression
        self.auto_declare: Any = real.auto_declare
        self.on_return: Any = real.on_return
        self._attempts = 0

    def publish(self, body: Any, **options: Any) -> Any:
        """Publish like a producer of kombu's; the retries of the fast way replace its own."""
        queue = _plain_queue(options)
        if queue is None:
            self._way.flush()
            return self._real.publish(body, **options)
        if not self._way.is_declared(queue):
            self._way.flush()
            found = self._real.publish(body, **options)
            self._way.declared(queue)
            return found
        self._attempts = _attempts(options)
        return kombu.Producer.publish(self, body, **{**options, "retry": False, "declare": None})

    def _publish(
        self,
        body: Any,
        priority: Any,
        content_type: str,
        content_encoding: str,
        headers: dict[str, Any],
        properties: dict[str, Any],
        routing_key: str,
        *_rest: Any,
    ) -> None:
        """What kombu calls with the serialized message."""
        if isinstance(properties.get("reply_to"), kombu.Queue):
            properties["reply_to"] = properties["reply_to"].name
        properties.setdefault("delivery_info", {}).update(exchange="", routing_key=routing_key)
        properties.setdefault("priority", priority or 0)
        properties.update(body_encoding="base64", delivery_tag=uuids(1)[0])
        message = {
            "body": b64encode(body.encode() if isinstance(body, str) else body).decode("ascii"),
            "content-encoding": content_encoding,
            "content-type": content_type,
            "headers": headers,
            "properties": properties,
        }
        key = self._way.keys.key(routing_key, priority=_number(properties["priority"]))
        task_id = str(properties.get("correlation_id") or "")
        self._way.push(Push(key, [_encode(message)], [task_id]), group=headers.get("group"), attempts=self._attempts)


def is_plain(producer: Any, app: Any) -> bool:
    """Tell whether a producer is an ordinary one of the application's own pool, with no batch of kombu's under way."""
    if type(producer) is not kombu.Producer or getattr(producer.__connection__, "_pool", None) is not app.pool:
        return False
    return getattr(getattr(producer, "_batch_local", None), "current", None) is None


def _plain_queue(options: Mapping[str, Any]) -> str | None:
    """The queue of a plain message; None for another."""
    exchange, routing_key, declare = options.get("exchange"), options.get("routing_key"), options.get("declare")
    if not isinstance(exchange, str) or exchange or not routing_key or not declare or len(declare) != 1:
        return None
    (queue,) = declare
    # A queue with a lifetime has to be touched by each message; other classes have their own ways.
    if type(queue) is not kombu.Queue or queue.name != routing_key or queue.exchange.type != "direct":
        return None
    if queue.expires or "x-expires" in (queue.queue_arguments or {}):
        return None
    if any(options.get(name) for name in _UNUSUAL) or "delivery_info" in options:
        return None
    return str(routing_key)


def _attempts(options: Mapping[str, Any]) -> int:
    """Attempts after the first."""
    if not options.get("retry"):
        return 0
    limit = (options.get("retry_policy") or {}).get("max_retries", 3)
    return _FOR_EVER if limit is None else int(limit)


def _number(priority: Any) -> int:
    try:
        return int(priority)
    except (TypeError, ValueError):
        return 0
