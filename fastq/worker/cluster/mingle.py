"""Greet the other workers at every connection: learn what time their clocks say and what is revoked.

Celery's worker waits a second for replies before it consumes. Here the server says how many have heard the question; so
nobody waits who is alone, nor longer than until all have answered.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import redis

from fastq import clock
from fastq.transport.redis.keys import Keys
from fastq.wire.control import request
from fastq.wire.envelope import JSON
from fastq.worker.cluster.lamport import SharedLamport

#: The lines are Celery's, and come from where its users look for them.
logger: logging.Logger = logging.getLogger("celery.worker.consumer.mingle")

#: Seconds to wait for replies; Celery's.
WAIT_S = 1.0

#: By node name, what each has answered.
Replies: TypeAlias = dict[str, Any]

#: Asks, in the thread that connects. Blocks for up to WAIT_S.
Ask: TypeAlias = Callable[[redis.Redis], Replies]


class Mingle:
    """How one worker greets the others: `hello` makes the question, `heard` takes the answers; both in the loop."""

    def __init__(
        self,
        *,
        node: str,
        exchange: str,
        keys: Keys,
        db: int,
        lamport: SharedLamport,
        revoked: Callable[[], list[str]],
        merge: Callable[[Iterable[str]], None],
    ) -> None:
        self._node, self._exchange, self._keys, self._db = node, exchange, keys, db
        self._lamport, self._revoked, self._merge = lamport, revoked, merge

    def hello(self) -> Ask:
        """The question, as things are now."""
        arguments = {"from_node": self._node, "revoked": self._revoked()}
        time = self._lamport.forward()
        return lambda client: self._ask(client, arguments, time)

    def _ask(self, client: redis.Redis, arguments: dict[str, Any], time: int) -> Replies:
        logger.info("mingle: searching for neighbors")
        address, ticket = clock.new_uuid(), clock.new_uuid()
        exchange = f"reply.{self._exchange}.pidbox"
        queue = f"{address}.{exchange}"
        member = self._keys.separator.join([address, "", queue])
        asked: Any = client
        try:
            asked.sadd(self._keys.binding(exchange), member)
            question = _question(self._exchange, arguments, time, ticket=ticket, exchange=exchange, address=address)
            listeners = asked.publish(self._keys.channel(f"{self._exchange}.pidbox", db=self._db), question)
            return self._collect(asked, self._keys.waiting(queue), ticket=ticket, listeners=listeners)
        except redis.RedisError as error:
            logger.warning("mingle: %s. This worker starts without what others have revoked.", error)
            return {}
        finally:
            _forget(asked, self._keys.binding(exchange), member, self._keys.waiting(queue))

    def _collect(self, client: Any, queue: str, *, ticket: str, listeners: int) -> Replies:
        replies: Replies = {}
        until = clock.monotonic() + WAIT_S
        while listeners > 0 and (left_s := until - clock.monotonic()) > 0:
            found = client.brpop([queue], timeout=left_s)
            if found is not None and (answer := _answer(found[1], ticket)) is not None:
                listeners -= 1
                replies.update(answer)
        replies.pop(self._node, None)
        return replies

    def heard(self, replies: Replies) -> None:
        """What the others have said."""
        if not replies:
            logger.info("mingle: all alone")
            return
        useful = {node: reply for node, reply in replies.items() if reply and isinstance(reply, dict)}
        logger.info("mingle: sync with %s nodes", len(useful))
        for node, reply in useful.items():
            logger.debug("mingle: processing reply from %s", node)
            self._sync(reply)
        logger.info("mingle: sync complete")

    def _sync(self, reply: dict[str, Any]) -> None:
        time, revoked = reply.get("clock"), reply.get("revoked")
        self._lamport.adjust(time) if isinstance(time, int) and 0 < time < 1 << 62 else self._lamport.forward()
        if revoked and isinstance(revoked, (list, dict)):
            self._merge([str(task_id) for task_id in revoked])


def _question(mailbox: str, arguments: dict[str, Any], time: int, *, ticket: str, exchange: str, address: str) -> bytes:
    reply = {"ticket": ticket, "reply_to": {"exchange": exchange, "routing_key": address}}
    return request("hello", arguments, mailbox=mailbox, time=time, expires=clock.now() + WAIT_S, reply=reply)


def _answer(raw: bytes, ticket: str) -> Replies | None:
    """None: it answers something else."""
    try:
        envelope = json.loads(raw)
        if envelope["headers"]["ticket"] != ticket:
            return None
        body = json.loads(base64.b64decode(envelope["body"])) if envelope["content-type"] == JSON else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return body if isinstance(body, dict) else {}


def _forget(client: Any, binding: str, member: str, queue: str) -> None:
    try:
        client.srem(binding, member)
        client.delete(queue)
    except redis.RedisError:
        pass  # whoever connects next will hear of it
