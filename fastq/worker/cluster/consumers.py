"""Which queues a worker consumes, at the start and afterwards: lists to claim from, channels to listen on, bindings.

A key that messages are claimed from has to be in the registry first: whoever restores a dead worker looks there for
what it held. So a queue that is added is known at once, registered in the background, and claimed from only then. A key
that was cancelled stays known and registered, because claims on it may be left; no more than that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from fastq.program import ProgramInfo, QueueInfo
from fastq.transport.redis.binding import Binding
from fastq.transport.redis.keys import Keys
from fastq.worker.broker import Broker
from fastq.worker.cluster.lease import Lease
from fastq.worker.cluster.subscriptions import Heard, Subscriptions
from fastq.worker.pipeline.intake import Intake, Order, QueueKey

logger: logging.Logger = logging.getLogger("celery.worker.consumer.consumer")


class MakeOrder(Protocol):
    """In which order to read from keys, given all of them."""

    def __call__(self, keys: Iterable[QueueKey]) -> Order: ...


class Consumers:
    """Adds queues to a worker and takes them away."""

    def __init__(
        self,
        program: ProgramInfo,
        *,
        worker: str,
        keys: Keys,
        db: int,
        intake: Intake,
        order: MakeOrder,
        lease: Lease,
        broker: Broker,
        subscriptions: Subscriptions,
        heard: Heard,
    ) -> None:
        #: What is consumed now.
        self.queues: list[QueueInfo] = list(program.queues)
        self._worker, self._keys, self._db = worker, keys, db
        self._intake, self._order, self._lease, self._broker = intake, order, lease, broker
        self._subscriptions, self._heard = subscriptions, heard
        self._declared = {queue.name: queue for queue in (*program.declared, *program.queues)}
        for queue in program.queues:
            self._listen(queue)

    def add(
        self,
        name: str,
        *,
        exchange: str | None = None,
        exchange_type: str | None = None,
        routing_key: str | None = None,
    ) -> None:
        """Consume a queue: as the application declares it, else bound as given, else to an exchange of its own name."""
        if any(queue.name == name for queue in self.queues):
            return
        queue = self._declared.get(name) or QueueInfo(
            name=name,
            exchange=name if exchange is None else exchange,
            exchange_type=exchange_type or "direct",
            routing_key=routing_key or name,
        )
        self._declared[name] = queue
        self.queues.append(queue)
        self._listen(queue)
        if not queue.fanouts:
            self._claim(queue)
        logger.info("Started consuming from %s", name)

    def cancel(self, name: str) -> None:
        """Consume a queue no more. Unknown ones are no error."""
        logger.info("Canceling queue %s", name)
        for queue in [queue for queue in self.queues if queue.name == name]:
            self.queues.remove(queue)
            for channel in self._channels(queue):
                self._pump(lambda channel=channel: self._subscriptions.remove(channel))  # type: ignore[misc]
            self._pump(lambda: self._intake.cancel(name))

    def _claim(self, queue: QueueInfo) -> None:
        if self._intake.numbers(queue.name):
            self._intake.resume(queue.name)
        else:
            made = queue_keys(queue, keys=self._keys, worker=self._worker)
            self._intake.add(made, order=self._order([*self._intake.keys, *made]))
            # In the registry they have the same numbers: the order in which they were added.
            self._lease.extend([bare(key, keys=self._keys) for key in made], bindings([queue]))
        self._broker.complete()

    def _listen(self, queue: QueueInfo) -> None:
        for channel in self._channels(queue):
            self._pump(lambda channel=channel: self._subscriptions.add(channel, self._heard))  # type: ignore[misc]

    def _channels(self, queue: QueueInfo) -> list[str]:
        return [
            self._keys.channel(exchange, db=self._db, routing_key=routing_key.replace("#", "*"))
            for exchange, routing_key in queue.fanouts
        ]

    def _pump(self, step: Callable[[], None]) -> None:
        self._broker.pump(step)


def queue_keys(queue: QueueInfo, *, keys: Keys, worker: str) -> list[QueueKey]:
    """The lists of one queue: one for each priority step. None for a queue that a fanout exchange publishes to."""
    made = []
    for step, key in zip(keys.priority_steps, keys.queue_keys(queue.name), strict=True):
        claims = keys.claim(key, worker, number=0).removesuffix("0")
        made.append(
            QueueKey(
                queue=queue.name,
                step=step,
                key=keys.waiting(key).encode(),
                claim_prefix=claims.encode(),
                index=keys.claims(key, worker).encode(),
            )
        )
    return made if not queue.fanouts else []


def bare(key: QueueKey, *, keys: Keys) -> str:
    """A queue key as the registry has it."""
    return key.key.decode()[len(keys.prefix) :]


def bindings(queues: Iterable[QueueInfo]) -> list[Binding]:
    """What kombu would declare for the queues; a fanout exchange needs no table."""
    return [
        Binding(exchange, kind, routing_key, queue.name)  # type: ignore[arg-type]
        for queue in queues
        for exchange, kind, routing_key in queue.bound
        if kind in ("direct", "topic")
    ]
