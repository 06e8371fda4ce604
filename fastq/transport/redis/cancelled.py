"""The ids of cancelled tasks, on the broker: what a worker reads that was not there when they were published.

A sorted set, id and moment at which the record may go, in seconds since the epoch. A record is needed until a worker
meets the message; it is kept longer, because a message can come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastq import clock
from fastq.transport.redis.keys import Keys

#: Seconds for which a record is kept: a queue that no worker reads for longer forgets what was cancelled in it.
KEPT_S = 7 * 86_400

#: Records that are kept; as many as a worker keeps in memory.
MOST = 50_000


def record(keys: Keys, ids: Sequence[str]) -> list[tuple[str | int | float, ...]]:
    """The commands that record these ids. They can be carried out twice. What is over, or too much, goes."""
    key, now = keys.cancelled, clock.now()
    scored = [part for task_id in ids for part in (now + KEPT_S, task_id)]
    return [
        ("ZADD", key, *scored),
        ("ZREMRANGEBYSCORE", key, "-inf", now),
        ("ZREMRANGEBYRANK", key, 0, -MOST - 1),
        ("EXPIRE", key, KEPT_S),
    ]


def read(client: Any, keys: Keys) -> list[str]:
    """All ids on record, oldest first. One command; blocks. Raises redis.RedisError."""
    found = client.zrangebyscore(keys.cancelled, clock.now(), "+inf")
    return [one.decode("utf-8", "surrogateescape") for one in found]
