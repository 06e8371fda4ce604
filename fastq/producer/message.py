"""Write Celery's protocol-2 messages as kombu stores them on Redis, byte for byte, from a stencil per task.

All that is the same for every message of a call (task name, queue, options, origin) is encoded once, with marks
where ids, arguments and delivery tag go; a message is then that text with five values put in. The order of keys
and the spaces are kombu's, so that what is compared, hashed or read by eye looks the same.
"""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta, timezone
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from fastq.producer.ids import uuids
from fastq.wire.brief import brief
from fastq.wire.kombu_json import base64_text, encode_text, quote
from fastq.wire.moment import parse_iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fastq.producer.options import Options

    Arguments = tuple[Sequence[Any] | None, Mapping[str, Any] | None]

#: The third part of each body where nothing follows the task.
_EMBED = '{"callbacks": null, "errbacks": null, "chain": null, "chord": null}'

#: What differs from message to message, in the order in which `fill` has it.
_FIELDS = ("body", "task_id", "argsrepr", "kwargsrepr", "delivery_tag")


class Stencil:
    """One task's messages before their ids and arguments are known. Good for as long as `options` hold."""

    __slots__ = ("_argsrepr", "_embed", "_kwargsrepr", "_pick", "_text")

    #: Ids that `fill` needs for each message: its own, and a delivery tag.
    ids_each = 2

    def __init__(self, name: str, *, options: Options, queue: str, priority: int, reply_to: str, now: datetime) -> None:
        # A random mark and a digit: nothing that a caller puts into the options can be taken for one.
        nonce = uuids(1)[0]
        marks = {field: f"{nonce}{number}" for number, field in enumerate(_FIELDS)}
        headers = _headers(name, options, marks=marks, now=now)
        properties = _properties(options, marks=marks, queue=queue, priority=priority, reply_to=reply_to, now=now)
        envelope = {
            "body": marks["body"],
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties,
        }
        self._embed = encode_text(options.embed) if options.embed else _EMBED
        self._text, self._pick = _cut(encode_text(envelope), nonce)
        self._argsrepr = None if options.argsrepr is None else quote(options.argsrepr)[1:-1]
        self._kwargsrepr = None if options.kwargsrepr is None else quote(options.kwargsrepr)[1:-1]

    def fill(self, arguments: Iterable[Arguments], ids: Sequence[str]) -> list[str]:
        """Return one envelope for each pair of arguments; `ids` has a task id and a delivery tag for each."""
        text, pick, describe, embed = self._text, self._pick, self._describe, self._embed
        return [
            text % pick((_body(args, kwargs, embed), quote(task_id)[1:-1], *describe(args, kwargs), tag))
            for (args, kwargs), task_id, tag in zip(arguments, ids[::2], ids[1::2], strict=True)
        ]

    def _describe(self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> tuple[str, str]:
        of_args, of_kwargs = self._argsrepr, self._kwargsrepr
        if of_args is None:
            of_args = quote(brief(args or ()))[1:-1]
        if of_kwargs is None:
            of_kwargs = quote(brief(kwargs))[1:-1] if kwargs else "{}"
        return of_args, of_kwargs


def _body(args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, embed: str) -> str:
    if args is not None and not isinstance(args, (list, tuple)):
        raise TypeError(f"task arguments must be a list or a tuple, not {args!r}")
    if kwargs and not hasattr(kwargs, "keys"):
        raise TypeError(f"named task arguments must be a mapping, not {kwargs!r}")
    return base64_text(f"[{encode_text(args or ())}, {encode_text(kwargs or {})}, {embed}]")


def _headers(name: str, options: Options, *, marks: dict[str, str], now: datetime) -> dict[str, Any]:
    eta = now + timedelta(seconds=options.countdown) if options.countdown else options.eta
    headers: dict[str, Any] = {
        "lang": "py",
        "task": name,
        "id": marks["task_id"],
        "shadow": options.shadow,
        "eta": _iso(eta or None),
        "expires": _iso(_expires(options, now=now)),
        "group": options.group_id,
        "group_index": options.group_index,
        "retries": options.retries,
        "timelimit": [options.time_limit, options.soft_time_limit],
        "root_id": options.root_id or marks["task_id"],
        "parent_id": options.parent_id,
        "argsrepr": marks["argsrepr"],
        "kwargsrepr": marks["kwargsrepr"],
        "origin": f"gen{os.getpid()}@{socket.gethostname()}",
        "ignore_result": options.ignore_result,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    return {**headers, **(options.headers or {})}


def _properties(
    options: Options, *, marks: dict[str, str], queue: str, priority: int, reply_to: str, now: datetime
) -> dict[str, Any]:
    expiration = {} if options.expires is None else {"expiration": _remaining_ms(options, now=now)}
    return {
        "correlation_id": marks["task_id"],
        "reply_to": options.reply_to or reply_to,
        "delivery_mode": 2,
        **expiration,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": priority,
        "body_encoding": "base64",
        "delivery_tag": marks["delivery_tag"],
    }


def _expires(options: Options, *, now: datetime) -> datetime | str | None:
    if isinstance(options.expires, (int, float)):
        return now + timedelta(seconds=options.expires)
    return options.expires


def _iso(moment: datetime | str | None) -> str | None:
    return moment.isoformat() if isinstance(moment, datetime) else moment


def _remaining_ms(options: Options, *, now: datetime) -> str:
    """Return what is left until the message expires, nothing if that is past, as AMQP writes it."""
    expires = options.expires
    if isinstance(expires, (int, float)):
        remaining_s = float(expires)
    else:
        moment = expires if isinstance(expires, datetime) else parse_iso(str(expires))
        aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        remaining_s = (aware - now).total_seconds()
    return str(int(max(0.0, remaining_s) * 1000))


def _cut(text: str, nonce: str) -> tuple[str, Callable[[tuple[str, ...]], tuple[str, ...]]]:
    """Turn marked text into a format string and the function that brings the fields' values into its order."""
    head, *rest = text.replace("%", "%%").split(nonce)
    order = [int(piece[0]) for piece in rest]
    return head + "".join(f"%s{piece[1:]}" for piece in rest), itemgetter(*order)
