"""What is published for workers by remote control, as kombu's pidbox writes it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from fastq import clock
from fastq.wire.envelope import JSON


def request(
    method: str,
    arguments: Mapping[str, Any],
    *,
    mailbox: str,
    time: int = 0,
    expires: float = 0.0,
    reply: Mapping[str, Any] | None = None,
) -> bytes:
    """A request to all workers of a mailbox (`control_exchange`).

    `time` is the sender's logical clock, `expires` the moment after which nobody waits for replies; `reply` has
    `ticket` and `reply_to` of a request that wants some.
    """
    body = {
        "method": method,
        "arguments": dict(arguments),
        "destination": None,
        "pattern": None,
        "matcher": None,
        **(reply or {}),
    }
    envelope = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": JSON,
        "headers": {"clock": time, "expires": expires},
        "properties": {
            "delivery_mode": 2,
            "delivery_info": {"exchange": f"{mailbox}.pidbox", "routing_key": ""},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": clock.new_uuid(),
        },
    }
    return json.dumps(envelope).encode()
