"""Put raw messages on a queue, as any producer's bytes would arrive there."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

from tests.fix_redis import Database

#: What a producer writes into the headers when nothing special is asked for.
PLAIN_HEADERS: dict[str, Any] = {
    "lang": "py",
    "task": "t.add",
    "shadow": None,
    "eta": None,
    "expires": None,
    "group": None,
    "group_index": None,
    "retries": 0,
    "timelimit": [None, None],
    "parent_id": None,
    "argsrepr": "(1, 2)",
    "kwargsrepr": "{}",
    "origin": "gen1@tests",
    "ignore_result": False,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}

NO_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def envelope(
    body: Any, *, headers: dict[str, Any] | None = None, queue: str = "celery", **outer: Any
) -> dict[str, Any]:
    """A protocol-2 envelope; `body` is bytes, or a value that is written as JSON."""
    task_id = str(uuid.uuid4())
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    properties = {
        "correlation_id": task_id,
        "reply_to": "",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }
    return {
        "body": base64.b64encode(raw).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {**PLAIN_HEADERS, "id": task_id, "root_id": task_id, **(headers or {})},
        "properties": properties,
        **outer,
    }


def call(task: str, *args: Any, headers: dict[str, Any] | None = None, **kwargs: Any) -> dict[str, Any]:
    """The envelope of an ordinary call."""
    return envelope([list(args), kwargs, NO_EMBED], headers={"task": task, **(headers or {})})


def push(db: Database, message: dict[str, Any] | bytes | str, *, queue: str = "celery") -> str:
    """LPUSH it as a producer does; the task's id, "" if it has none."""
    raw = json.dumps(message) if isinstance(message, dict) else message
    db.client.lpush(queue, raw)
    headers = message.get("headers") if isinstance(message, dict) else None
    return str(headers.get("id", "")) if isinstance(headers, dict) else ""
