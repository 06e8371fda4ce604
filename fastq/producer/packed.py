"""Write messages of wire "fastq" from a stencil per task: what differs is the id and the arguments."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import msgspec

from fastq.wire.moment import read_moment
from fastq.wire.packed import UUID_HEAD, head, pack_body, pack_id, tail

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastq.producer.message import Arguments
    from fastq.producer.options import Options


class PackedStencil:
    """One task's messages before their ids and arguments are known: the twin of `message.Stencil`.

    `canvas`: callbacks, errbacks, chain and chord, and whatever else `PackedOptions` has and `Options` has not.
    """

    __slots__ = ("_head", "_tail")

    #: Ids that `fill` needs for each message. There is no delivery tag in a packed message.
    ids_each = 1

    def __init__(
        self,
        name: str,
        *,
        options: Options,
        queue: str,
        priority: int,
        reply_to: str = "",
        now: datetime,
        canvas: Mapping[str, Any] | None = None,
    ) -> None:
        said = {**packed_options(options, priority=priority, now=now), **(canvas or {})}
        self._head, self._tail = head(name), tail(queue, said)

    def fill(self, arguments: Iterable[Arguments], ids: Sequence[str]) -> list[bytes]:
        """Return one message for each pair of arguments; `ids` has a task id for each. Raises TypeError for arguments
        that have no place in a message, before anything is sent."""
        head, tail = self._head, self._tail
        return [
            head + _id(task_id) + tail + _body(args, kwargs)
            for (args, kwargs), task_id in zip(arguments, ids, strict=True)
        ]


def packed_options(options: Options, *, priority: int, now: datetime) -> dict[str, Any]:
    """The options of a send as `wire.packed` names them; only what says something."""
    eta = now + timedelta(seconds=options.countdown) if options.countdown else options.eta
    limits = (options.time_limit, options.soft_time_limit)
    return {
        "eta": _moment(eta or None),
        "expires": _moment(_expires(options, now=now)),
        "timelimit": None if limits == (None, None) else limits,
        "priority": priority or None,
        "retries": options.retries or None,
        "ignore_result": options.ignore_result,
        "shadow": options.shadow,
        "root_id": options.root_id,
        "parent_id": options.parent_id,
        "group": options.group_id,
        "group_index": options.group_index,
        "reply_to": options.reply_to,
        "argsrepr": options.argsrepr,
        "kwargsrepr": options.kwargsrepr,
        "headers": options.headers or None,
    }


def _expires(options: Options, *, now: datetime) -> datetime | str | None:
    if isinstance(options.expires, (int, float)):
        return now + timedelta(seconds=options.expires)
    return options.expires


def _moment(moment: datetime | str | None) -> float | None:
    """Seconds since 1970. What has no zone is UTC, as in Celery's headers."""
    if not isinstance(moment, datetime):
        return None if moment is None else read_moment(moment)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)).timestamp()


def _id(text: str) -> bytes:
    # The usual text of a UUID: dashes at four places, hexadecimal digits in small letters between them.
    if len(text) == 36 and text[8:24:5] == "----" and text.islower():
        try:
            found = bytes.fromhex(text.replace("-", ""))
        except ValueError:
            return pack_id(text)
        if len(found) == 16:
            return UUID_HEAD + found
    return pack_id(text)


def _body(args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> bytes:
    if args is not None and not isinstance(args, (list, tuple)):
        raise TypeError(f"task arguments must be a list or a tuple, not {args!r}")
    if kwargs and not hasattr(kwargs, "keys"):
        raise TypeError(f"named task arguments must be a mapping, not {kwargs!r}")
    if (not args or _are_native(args)) and (not kwargs or _are_native((kwargs,))):
        try:
            return _encode((args or (), kwargs or {}))
        except OverflowError:
            pass  # an integer beyond 64 bits
    return pack_body(args or (), kwargs or {})


_encode = msgspec.msgpack.Encoder().encode

_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_TEXT = frozenset({str})


def _are_native(values: Iterable[Any]) -> bool:
    """Whether MessagePack has exactly these values, all the way down; integers aside."""
    kinds = set(map(type, values))
    return kinds <= _SCALARS or (kinds <= _KINDS and all(_is_native(value) for value in values))


_KINDS = _SCALARS | {list, tuple, dict}


def _is_native(value: Any) -> bool:
    kind = type(value)
    if kind is dict:
        return _TEXT.issuperset(map(type, value)) and _are_native(value.values())
    return kind in _SCALARS or _are_native(value)
