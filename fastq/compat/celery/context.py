"""A task's request that is read from its message only when somebody looks.

Most tasks never look at `self.request`, or at its id only. Filling Celery's Context costs more than everything else
that is done for a plain task. So the request starts as a `PlainContext`, which knows id, arguments and host; at the
first look at anything else it becomes an ordinary Context, equal to Celery's field by field.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
from kombu.utils.json import loads

from fastq.wire.packed import frame_of, is_packed

if TYPE_CHECKING:
    from fastq.untyped import Untyped as Context
else:
    from celery.app.task import Context

#: The instance dictionary itself; `__dict__` of a PlainContext fills it first.
_fields_of = Context.__dict__["__dict__"].__get__

#: What a PlainContext knows, or has right as a class attribute: everything else fills it.
_KNOWN = frozenset({"id", "args", "kwargs", "hostname", "called_directly", "is_eager", "children"})

#: Names of fields that are no custom headers.
_USUAL = frozenset({*vars(Context), "lang", "task", "argsrepr", "kwargsrepr", "compression"})


def request_fields(envelope: dict[str, Any], *, hostname: str) -> dict[str, Any]:
    """The request of Celery's worker for a protocol 2 message, up to arguments and embedded fields."""
    properties = envelope["properties"]
    delivery_info = properties.get("delivery_info") or {}
    return {
        **envelope["headers"],
        "properties": properties,
        "reply_to": properties.get("reply_to"),
        "correlation_id": properties.get("correlation_id"),
        "hostname": hostname,
        "delivery_info": {
            "exchange": delivery_info.get("exchange"),
            "routing_key": delivery_info.get("routing_key"),
            "priority": properties.get("priority"),
            "redelivered": delivery_info.get("redelivered", False),
        },
    }


def read_plain(envelope: bytes) -> dict[str, Any]:
    """The object in a plain envelope: no markers in it, so any JSON reader will do. Of a packed one: not its body."""
    if is_packed(envelope):
        return frame_of(envelope)
    try:
        found: dict[str, Any] = msgspec.json.decode(envelope)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        # msgspec is stricter than Python's json: lone surrogates in escapes, NaN.
        found = json.loads(envelope) if b"__type__" not in envelope else loads(envelope)
    return found


def fill(request: Any) -> None:
    """Make an ordinary Context of a PlainContext. What was set on it meanwhile stays."""
    own = _fields_of(request)
    carried = own.pop("_carried")
    protected = type(request)._protected
    request.__class__ = Context
    set_meanwhile = dict(own)
    own.clear()
    fields = request_fields(read_plain(carried.envelope), hostname=carried.hostname)
    fields.update(args=carried.args, kwargs=carried.kwargs, is_eager=False)
    fields.update(callbacks=None, errbacks=None, chain=None, chord=None)
    fields["called_directly"] = False
    request.update(fields)
    if request.headers is None:
        # Making a set of all names of Context, as Celery does here, costs more than everything else in this function.
        request.headers = None if fields.keys() <= _USUAL else request._get_custom_headers(fields)
    if protected:
        own["_protected"] = protected
    own.update(set_meanwhile)


class _Reprs(msgspec.Struct):
    argsrepr: Any = None
    kwargsrepr: Any = None


class _Envelope(msgspec.Struct):
    headers: _Reprs


_read_reprs = msgspec.json.Decoder(_Envelope).decode


def reprs_of(request: Any) -> tuple[Any, Any]:
    """Arguments as the client has written them for people, without filling the request."""
    carried = _fields_of(request).get("_carried")
    if carried is None:
        return request.get("argsrepr"), request.get("kwargsrepr")
    if is_packed(carried.envelope):
        fields = frame_of(carried.envelope)["headers"]
        return fields["argsrepr"], fields["kwargsrepr"]
    try:
        headers = _read_reprs(carried.envelope).headers
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return request.get("argsrepr"), request.get("kwargsrepr")
    return headers.argsrepr, headers.kwargsrepr


class _Later:
    """A field of Context that fills the request at the first look."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, request: Any, owner: Any = None) -> Any:
        if request is None:
            return Context.__dict__[self.name]
        fill(request)
        return getattr(request, self.name)

    def __set__(self, request: Any, value: Any) -> None:
        # A filled request shows the runner that there may be something to do: a chain set by the task, for one.
        fill(request)
        setattr(request, self.name, value)


class _Carried:
    """A field that the runner hands over."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, request: Any, owner: Any = None) -> Any:
        if request is None:
            return Context.__dict__[self.name]
        return getattr(request._carried, self.name)


class PlainContext(Context):
    """The request of a plain task. It has been called by the worker: `__call__` of the task runs it as it is."""

    called_directly = False
    _protected = 1

    id: _Carried = _Carried("id")
    args: _Carried = _Carried("args")
    kwargs: _Carried = _Carried("kwargs")
    hostname: _Carried = _Carried("hostname")

    def __init__(self) -> None:
        """Made by the runner with `__new__`, which then sets `_carried`."""

    def __getattr__(self, name: str) -> Any:
        # Custom headers are attributes of a request too (OpenTelemetry's traceparent, for one).
        if "_carried" not in _fields_of(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        fill(self)
        return getattr(self, name)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        fill(self)
        fields: dict[str, Any] = _fields_of(self)
        return fields

    def __reduce_ex__(self, protocol: Any) -> Any:
        fill(self)
        return Context.__reduce_ex__(self, protocol)


class CalledContext(PlainContext):
    """The same for a task with a `__call__` of its own, which has not been entered yet."""

    _protected = 0


for _name, _default in vars(Context).items():
    if not _name.startswith("_") and _name not in _KNOWN and not callable(_default):
        setattr(PlainContext, _name, _Later(_name))
