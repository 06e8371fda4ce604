"""Tell of a message what Celery's `Request.info()` tells: for replies to whoever inspects a worker."""

from __future__ import annotations

import base64
import json
from datetime import timezone
from typing import Any

from fastq.errors import PeerError
from fastq.wire.envelope import JSON, Header, read_header
from fastq.wire.moment import parse_iso
from fastq.wire.packed import as_json


def request_info(raw: bytes, *, node: str, safe: bool = False) -> dict[str, Any]:
    """One message as Celery shows a request that nobody has started.

    The arguments are values if the body is JSON; what only the application can open, and everything with `safe`, is
    shown as the texts of `argsrepr` and `kwargsrepr`. Never raises: of what cannot be read, the little that is known.
    """
    raw = _as_json(raw)
    try:
        header = read_header(raw)
    except PeerError as error:
        header = Header(task=_text(error.evidence.get("task")), id=_text(error.evidence.get("id")) or "")
    envelope = _envelope(raw)
    headers, properties = _object(envelope.get("headers")), _object(envelope.get("properties"))
    args, kwargs = _shown(headers) if safe else _arguments(envelope, header) or _shown(headers)
    return {
        "id": header.id,
        "name": header.shadow or header.task,
        "args": args,
        "kwargs": kwargs,
        "type": header.task,
        "hostname": node,
        "time_start": None,
        "acknowledged": False,
        "delivery_info": {
            "exchange": header.exchange,
            "routing_key": header.routing_key,
            "priority": properties.get("priority"),
            "redelivered": header.redelivered,
        },
        "worker_pid": None,
    }


def read_eta(raw: bytes) -> str | None:
    """When it is to be started, as Celery writes the time; None if it does not say."""
    eta = _object(_envelope(_as_json(raw)).get("headers")).get("eta")
    try:
        moment = parse_iso(eta or "")
    except (ValueError, TypeError, AttributeError):
        return None
    return (moment if moment.utcoffset() is not None else moment.replace(tzinfo=timezone.utc)).isoformat()


def _as_json(raw: bytes) -> bytes:
    try:
        return as_json(raw)
    except PeerError:
        return raw  # what its header says is still known


def _envelope(raw: bytes) -> dict[str, Any]:
    try:
        return _object(json.loads(raw))
    except (ValueError, RecursionError):
        return {}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _arguments(envelope: dict[str, Any], header: Header) -> tuple[Any, Any] | None:
    if header.content_type != JSON or header.compression:
        return None
    try:
        body = envelope["body"]
        loaded = json.loads(base64.b64decode(body) if header.body_encoding == "base64" else body)
        if header.protocol == 1:
            return loaded.get("args") or [], loaded.get("kwargs") or {}
        return loaded[0], loaded[1]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def _shown(headers: dict[str, Any]) -> tuple[Any, Any]:
    return headers.get("argsrepr", ""), headers.get("kwargsrepr", "")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
