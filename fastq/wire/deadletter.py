"""What stands in a list of dead letters: a message that was put aside, unchanged, and why."""

from __future__ import annotations

import base64
from typing import Literal

import msgspec

from fastq.errors import EnvelopeError, PeerError
from fastq.wire.envelope import Header, read_header
from fastq.wire.packed import as_json

Reason = Literal["crashes", "retries", "unknown", "undecodable"]


class Death(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One process that ended while it ran the message."""

    #: Seconds since 1970.
    at: float
    #: The worker whose child it was, or which it was itself.
    node: str = ""
    pid: int = 0
    #: In words: by which signal, at which limit.
    reason: str = ""
    #: The most memory it had, in KiB, and how often its control group has run out of memory; 0 if not known.
    peak_kib: int = 0
    oom_kills: int = 0
    #: Where it was, as faulthandler says; empty unless it was a fatal error of its own.
    stack: str = ""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message and its story. `of` and `message` leave the bytes as they are, whatever they are."""

    reason: Reason
    #: In one sentence, for people.
    detail: str
    at: float
    node: str = ""
    id: str = ""
    task: str = ""
    #: The message as text, or in base64 if it is none.
    text: str = ""
    base64: str = ""
    deaths: tuple[Death, ...] = ()

    @classmethod
    def of(
        cls, raw: bytes, *, reason: Reason, detail: str, at: float, node: str = "", deaths: tuple[Death, ...] = ()
    ) -> DeadLetter:
        """The letter of a message. What can be read of it is said."""
        header = _header(raw)
        try:
            fields = {"text": raw.decode()}
        except UnicodeDecodeError:
            fields = {"base64": base64.b64encode(raw).decode()}
        known = {} if header is None else {"id": header.id, "task": header.task or ""}
        return cls(reason=reason, detail=detail, at=at, node=node, deaths=deaths, **known, **fields)

    @property
    def message(self) -> bytes:
        """The message, to the byte."""
        return base64.b64decode(self.base64) if self.base64 else self.text.encode()

    @property
    def shown(self) -> str:
        """The message for people: a packed one as Celery's, base64 for what is neither that nor text."""
        if not self.base64:
            return self.text
        try:
            return as_json(self.message).decode()
        except (PeerError, UnicodeDecodeError):
            return self.base64

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


def decode_letter(data: bytes) -> DeadLetter:
    """Raises EnvelopeError for what is no letter."""
    try:
        return msgspec.json.decode(data, type=DeadLetter)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise EnvelopeError(f"not a dead letter: {error}", raw=data) from error


def identity(raw: bytes) -> str:
    """What crashes of a message are counted by: its id, and which attempt it is. A redelivery keeps both, and whoever
    sends a retry starts another. Empty if it cannot be read."""
    header = _header(raw)
    return f"{header.id}:{header.retries}" if header is not None and header.id else ""


def retries_of(raw: bytes) -> int:
    """Which attempt a message is; 0 for the first, and for what cannot be read."""
    header = _header(raw)
    return 0 if header is None else header.retries


def _header(raw: bytes) -> Header | None:
    try:
        return read_header(raw)
    except PeerError:
        return None
