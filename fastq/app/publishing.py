"""Signals of sending: what receivers are told before a message goes out, and when the broker has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastq.app import signals
from fastq.app.unfold import Call
from fastq.producer.ids import uuids

if TYPE_CHECKING:
    from fastq.app.app import FastQ

#: Headers that are shown; what a receiver makes of them changes nothing.
_SHOWN = ("id", "task", "root_id", "parent_id")


def before(
    app: FastQ, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """Tell of a message that is about to be sent; return its options, with what receivers have added to its headers."""
    options = {**chosen, "task_id": chosen.get("task_id") or uuids(1)[0]}
    headers = _headers(name, options["task_id"], options)
    fields = _fields(app, args, kwargs, options)
    signals.before_task_publish.send(name, headers=headers, **fields)
    return {**options, "headers": {key: value for key, value in headers.items() if key not in _SHOWN}}


def after(app: FastQ, calls: Iterable[Call]) -> None:
    """Tell of messages that were sent; `task_id` is among their options."""
    for call in calls:
        headers = _headers(call.name, call.options["task_id"], call.options)
        fields = _fields(app, call.args, call.kwargs, call.options)
        signals.after_task_publish.send(call.name, headers=headers, **fields)


def _headers(name: str, task_id: str, options: Mapping[str, Any]) -> dict[str, Any]:
    lineage = {"root_id": options.get("root_id") or task_id, "parent_id": options.get("parent_id")}
    return {**(options.get("headers") or {}), "id": task_id, "task": name, **lineage}


def _fields(app: FastQ, args: Any, kwargs: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    queue = options.get("queue") or app.conf.default_queue
    return {"body": (args, kwargs, options.get("embed") or {}), "exchange": "", "routing_key": queue}
