"""Remote-control commands that need the application: those it registered itself, and those of Celery's that show it.

They run in a process beside the worker's children, with a stand-in for the `state` that Celery hands to commands.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Sequence
from typing import Any

from celery import states
from celery.utils.collections import AttributeDict
from celery.worker import control
from kombu.serialization import dumps, prepare_accept_content
from kombu.utils import json as kombu_json

from fastq.compat.celery.message import Delivered
from fastq.program import ControlInfo, Question, Reply

#: The lines come from where Celery's users look for them.
logger: logging.Logger = logging.getLogger("kombu.pidbox")
control_logger: logging.Logger = logging.getLogger("celery.worker.control")

#: A task in another state was started, or has ended: its state is left to whoever set it.
_NOT_STARTED = frozenset({states.PENDING, states.RECEIVED, states.RETRY, states.REJECTED})

#: What a command may use of Celery's consumer, its controller and its pool although they are not there.
_WHY = (
    "custom commands run in a process of their own beside the worker; "
    "use state.app.control to change the worker, and state.app.control.inspect to ask it"
)


class NotHere:
    """In place of an object of Celery's main process: says so to whoever asks it for anything."""

    def __init__(self, name: str, **known: Any) -> None:
        self._name = name
        vars(self).update(known)

    def __repr__(self) -> str:
        return f"<{self._name}: not in fastq>"

    def __bool__(self) -> bool:
        return False

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise AttributeError(f"fastq has no {self._name}.{attribute}: {_WHY}")


def describe_control(app: Any, *, timeout_s: float) -> ControlInfo:
    """What the engine must know of it. Raises celery.exceptions.ImproperlyConfigured."""
    mailbox = app.control.mailbox
    own = [name for name, function in control.Panel.data.items() if function.__module__ != control.__name__]
    return ControlInfo(
        enabled=bool(app.conf.worker_enable_remote_control),
        exchange=str(mailbox.namespace),
        serializer=str(mailbox.serializer or "json"),
        accept=sorted(prepare_accept_content(mailbox.accept)),
        commands=sorted(own),
        timeout_s=timeout_s,
    )


class Desk:
    """Answers the engine's questions for one application."""

    def __init__(self, app: Any, *, worker: Any) -> None:
        self.app: Any = app
        self.worker: Any = worker

    def answer(self, question: Question) -> Reply:
        """Raises nothing: what goes wrong is in the reply, as kombu's pidbox writes it."""
        try:
            return Reply(value=self._answer(question))
        except (Exception, SystemExit) as error:
            logger.exception("pidbox command error: %r", error)
            return Reply(value=_json({"error": repr(error)}), failed=True)

    def _answer(self, question: Question) -> bytes:
        if question.kind == "decode":
            return _json(self._decode(question.data))
        if question.kind == "encode":
            return _json(self._encode(question.data))
        if question.kind == "flag":
            flag(self.app, json.loads(question.data))
            return b"null"
        if question.kind == "call":
            self.app.signature(kombu_json.loads(question.data)).apply_async()
            return b"null"
        handler = control.Panel.data[question.name]
        self._know(question.facts)
        arguments = kombu_json.loads(question.arguments)
        return _json(handler(self._state(question.facts), **arguments))

    def _know(self, facts: dict[str, Any]) -> None:
        # What remote control has changed in the engine is changed here too, for commands that show it.
        for name, limit in (facts.get("rate_limits") or {}).items():
            if name in self.app.tasks:
                self.app.tasks[name].rate_limit = limit

    def _state(self, facts: dict[str, Any]) -> Any:
        consumer = NotHere(
            "state.consumer",
            app=self.app,
            hostname=self.worker.hostname,
            controller=NotHere("state.consumer.controller", app=self.app, hostname=self.worker.hostname),
            pool=NotHere("state.consumer.pool"),
            task_consumer=NotHere("state.consumer.task_consumer"),
            qos=NotHere("state.consumer.qos", value=facts.get("prefetch_count", 0)),
            connection=NotHere("state.consumer.connection"),
            event_dispatcher=NotHere("state.consumer.event_dispatcher"),
            timer=NotHere("state.consumer.timer"),
        )
        return AttributeDict(app=self.app, hostname=self.worker.hostname, consumer=consumer, tset=lambda found: found)

    def _decode(self, envelope: bytes) -> Any:
        accept = prepare_accept_content(self.app.control.mailbox.accept)
        return Delivered(envelope, accept=accept).decode()

    def _encode(self, data: bytes) -> dict[str, str]:
        kind, encoding, body = dumps(json.loads(data), self.app.control.mailbox.serializer)
        body = body.encode() if isinstance(body, str) else body
        return {"body": base64.b64encode(body).decode(), "content-type": kind, "content-encoding": encoding}


def flag(app: Any, ids: Sequence[str]) -> None:
    """Store REVOKED for what nobody has started: what Celery's `revoke` command does in each worker that hears it."""
    for task_id in ids:
        try:
            if app.backend.get_state(task_id) in _NOT_STARTED:
                app.backend.mark_as_revoked(task_id, reason="revoked", store_result=True)
        except Exception as error:
            control_logger.warning("Failed to mark task %s as revoked in backend: %s", task_id, error)


def _json(value: Any) -> bytes:
    text = kombu_json.dumps(value)
    return text.encode() if isinstance(text, str) else bytes(text)
