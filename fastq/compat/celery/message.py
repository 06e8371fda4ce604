"""Read a claimed envelope into kombu's message, and remember what is decided about it."""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

import base64
import sys
from typing import TYPE_CHECKING, Any

from kombu.utils.json import loads

from fastq.wire.packed import as_json

if TYPE_CHECKING:
    from fastq.untyped import Untyped as Message
else:
    from kombu.message import Message


class Delivered(Message):
    """A message as a Celery consumer gets it; `ack` and `reject` are only noted: the engine carries them out."""

    def __init__(self, raw: bytes, *, accept: Any) -> None:
        self.raw = raw
        #: None: nothing decided. "ack", "reject", or "requeue".
        self.decision: str | None = None
        self.errors: list[Any] = []
        envelope = loads(as_json(raw))
        properties = envelope["properties"]
        super().__init__(
            body=self._text_or_bytes(envelope.get("body"), properties.get("body_encoding")),
            delivery_tag=properties.get("delivery_tag"),
            content_type=envelope.get("content-type"),
            content_encoding=envelope.get("content-encoding"),
            delivery_info=properties.get("delivery_info"),
            properties=properties,
            headers=envelope.get("headers"),
            accept=accept,
            postencode="utf-8",
        )

    def _text_or_bytes(self, body: Any, encoding: Any) -> Any:
        if not body or not encoding or str(encoding).lower() == "utf-8":
            return body
        try:
            return base64.b64decode(body.encode() if isinstance(body, str) else body)
        except (ValueError, TypeError):
            # Celery's worker ends over this one; here it counts as a body that cannot be decoded.
            self.errors.append(sys.exc_info())
            return body

    def ack(self, multiple: bool = False) -> None:
        """Note that the message is done with."""
        self._decide("ack")

    def reject(self, requeue: bool = False) -> None:
        """Note that the message is refused."""
        self._decide("requeue" if requeue else "reject")

    def requeue(self) -> None:
        """Note that the message goes back to its queue."""
        self._decide("requeue")

    def _decide(self, decision: str) -> None:
        if self.decision is None:
            self.decision = decision
        self._state = {"ack": "ACK", "reject": "REJECTED", "requeue": "REQUEUED"}[decision]
