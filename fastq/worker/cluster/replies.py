"""Send the replies of remote control: to the queues that the reply exchange leads to, in a thread, in order."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from fastq import clock
from fastq.program import ControlInfo, Question, Reply
from fastq.transport.connect import Endpoint
from fastq.transport.redis.binding import find_queues
from fastq.transport.redis.keys import Keys
from fastq.wire.envelope import JSON
from fastq.worker.cluster.lamport import Lamport
from fastq.worker.poll import Errands
from fastq.worker.processes.desk import Desk

logger: logging.Logger = logging.getLogger(__name__)

#: Bytes of a reply; what is larger is replaced by an error. Redis refuses values over 512 MB, clients give up earlier.
LIMIT_BYTES = 64 << 20

#: Seconds that the broker may take to accept one.
TIMEOUT_S = 5.0

#: Replies that may wait for the broker; what comes beyond is dropped: whoever asked has gone.
MOST_WAITING = 1000


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a reply goes."""

    exchange: str
    routing_key: str


class Replies:
    """The outbox of a worker."""

    def __init__(
        self,
        info: ControlInfo,
        *,
        node: str,
        endpoint: Endpoint,
        keys: Keys,
        errands: Errands,
        desk: Desk,
    ) -> None:
        self._node, self._endpoint, self._keys = node, endpoint, keys
        self._errands, self._desk = errands, desk
        #: kombu's mailboxes have a clock beside the worker's own.
        self.lamport: Lamport = Lamport()
        self._speaks_json = JSON in info.accept
        self._waiting: list[tuple[Address, Callable[[], bytes]]] = []
        self._busy = False
        self._client: Any = None

    def send(self, value: bytes, *, to: Address, ticket: str | None) -> None:
        """Send `value`, which is JSON, as this node's reply. Does not block; a reply that cannot be delivered is logged
        and dropped."""
        if len(value) > LIMIT_BYTES:
            too_large = f"the reply has {len(value)} bytes; {LIMIT_BYTES} are allowed"
            logger.error("%s", too_large)
            value = json.dumps({"error": f"ValueError({too_large!r})"}).encode()
        body = b"{%s: %s}" % (json.dumps(self._node).encode(), value)
        if self._speaks_json:
            at = self.lamport.forward()
            self._enqueue(to, lambda: envelope(as_json(body), to=to, ticket=ticket, at=at))
        else:
            self._desk.ask(Question(kind="encode", data=body), lambda reply: self._encoded(reply, to, ticket))

    def _encoded(self, reply: Reply, to: Address, ticket: str | None) -> None:
        if not reply.failed:
            encoded, at = json.loads(reply.value), self.lamport.forward()
            self._enqueue(to, lambda: envelope(encoded, to=to, ticket=ticket, at=at))

    def _enqueue(self, to: Address, write: Callable[[], bytes]) -> None:
        if len(self._waiting) >= MOST_WAITING:
            logger.warning("A reply of remote control was dropped: %d wait for the broker", MOST_WAITING)
            return
        self._waiting.append((to, write))
        self._pump()

    def _pump(self) -> None:
        if self._waiting and not self._busy:
            self._busy = True
            batch, self._waiting = self._waiting, []
            self._errands.run(lambda: self._deliver(batch), self._delivered, name="fastq-reply")

    def _deliver(self, batch: list[tuple[Address, Callable[[], bytes]]]) -> None:
        """In a thread."""
        if self._client is None:
            self._client = self._endpoint.client(timeout_s=TIMEOUT_S)
        for to, write in batch:
            for queue in find_queues(self._client, to.exchange, routing_key=to.routing_key, keys=self._keys):
                self._client.lpush(self._keys.waiting(queue), write())

    def _delivered(self, outcome: object) -> None:
        self._busy = False
        if isinstance(outcome, Exception):
            logger.warning("A reply of remote control was not delivered: %s", self._endpoint.explain(outcome))
            self.close()  # the next one asks again where the broker is
        self._pump()

    def close(self) -> None:
        """Let the connection go."""
        if self._client is not None and not self._busy:
            self._client.close()
            self._client = None


def as_json(body: bytes) -> dict[str, str]:
    """A body as kombu's JSON serializer leaves it."""
    return {"body": base64.b64encode(body).decode(), "content-type": JSON, "content-encoding": "utf-8"}


def envelope(body: dict[str, str], *, to: Address, ticket: str | None, at: int) -> bytes:
    """The reply as kombu writes it, its keys in kombu's order. A large one takes a while."""
    return json.dumps(
        {
            "body": body["body"],
            "content-encoding": body["content-encoding"],
            "content-type": body["content-type"],
            "headers": {"ticket": ticket, "clock": at},
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": to.exchange, "routing_key": to.routing_key},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": clock.new_uuid(),
            },
        }
    ).encode()
