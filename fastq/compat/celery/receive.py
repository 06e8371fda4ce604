"""From a message to Celery's own Request object: what Celery's consumer and its task strategy do on receipt.

Each way a message can be unfit has Celery's outcome and Celery's log record where Celery has one; where Celery's worker
ends or crashes, the message is refused and the worker goes on. One line more names the id and the reason, because
Celery's records show neither id nor reason in one line, if at all.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

import logging
from typing import Any

import msgspec
from celery import signals
from celery.exceptions import InvalidTaskError, NotRegistered
from celery.utils.imports import symbol_by_name
from celery.utils.log import get_logger
from celery.utils.objects import Bunch
from celery.worker.consumer import consumer as consumers
from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.serialization import prepare_accept_content
from kombu.utils.encoding import safe_repr

from fastq.child.events import Eventer
from fastq.compat.celery.message import Delivered
from fastq.errors import PeerError

#: The lines come from where Celery's users look for them.
logger: logging.Logger = get_logger(consumers.__name__)


class Refused(Exception):
    """The message cannot be run. Whoever has to know of it has been told; `decision` is what becomes of it."""

    def __init__(self, decision: str | None, *, why: str = "undecodable", detail: object = "") -> None:
        super().__init__(decision)
        self.decision: str | None = decision
        self.why: str = why
        self.detail: str = str(detail)


class Received(msgspec.Struct, frozen=True):
    """A message that can be run."""

    message: Delivered
    request: Any
    task: Any
    args: Any
    kwargs: Any
    embed: Any


class Receiver:
    """Turns raw envelopes into requests, for one application in one process."""

    def __init__(self, app: Any, *, hostname: str, sender: Any, eventer: Eventer) -> None:
        self.app: Any = app
        self.hostname: str = hostname
        self.sender: Any = sender
        self.eventer: Eventer = eventer
        self._accept = prepare_accept_content(app.conf.accept_content)
        self._request_classes: dict[str, Any] = {}

    def receive(self, raw: bytes) -> Received:
        """Raises Refused."""
        message = self.read(raw)
        name, decoded = self._name(message)
        task = self.app.tasks.get(name) if isinstance(name, str) else None
        if task is None:
            raise self._unknown(message, name)
        return self._request(message, task, decoded)

    def read(self, raw: bytes) -> Delivered:
        """The envelope as a message. Raises Refused."""
        try:
            message = Delivered(raw, accept=self._accept)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, PeerError) as error:
            logger.error("Refused what is no message: %s [%s]", error, safe_repr(raw[:1024]))
            raise Refused("reject", detail=error) from error
        if message.errors:
            raise self._undecodable(message, message.errors[0][1])
        return message

    def _name(self, message: Delivered) -> tuple[Any, Any]:
        if not isinstance(message.headers, dict):
            raise self._unknown_message(message, None)
        if "task" in message.headers:
            return message.headers["task"], None
        payload = self._decode(message)
        try:
            return payload["task"], payload
        except (TypeError, KeyError) as error:
            raise self._unknown_message(message, payload) from error

    def _decode(self, message: Delivered) -> Any:
        try:
            return message.decode()
        except Exception as error:
            raise self._undecodable(message, error) from error

    def _request(self, message: Delivered, task: Any, decoded: Any) -> Received:
        try:
            payload = message.decode()
            body, headers, is_decoded, utc = self._protocol(message, payload, decoded)
            args, kwargs, embed = payload if body is message.body else body
            request = self._request_class(task)(
                message,
                on_ack=message.ack_log_error,
                on_reject=message.reject_log_error,
                app=self.app,
                hostname=self.hostname,
                eventer=self.eventer,
                task=task,
                body=body,
                headers=headers,
                decoded=is_decoded,
                utc=utc,
            )
            return Received(message, request, task, args, kwargs, embed)
        except (InvalidTaskError, ContentDisallowed) as error:
            raise self._invalid(message, decoded, error) from error
        except DecodeError as error:
            raise self._undecodable(message, error) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._malformed(message, error) from error

    def _protocol(self, message: Delivered, payload: Any, decoded: Any) -> tuple[Any, Any, bool, Any]:
        if decoded is None and "args" not in payload:
            return message.body, message.headers, False, self.app.uses_utc_timezone()
        if "args" in payload:
            found: tuple[Any, Any, bool, Any] = hybrid_to_proto2(message, payload)
            return found
        converted: tuple[Any, Any, bool, Any] = proto1_to_proto2(message, payload)
        return converted

    def _request_class(self, task: Any) -> Any:
        cls = self._request_classes.get(task.name)
        if cls is None:
            cls = self._request_classes[task.name] = symbol_by_name(task.Request)
        return cls

    # ------------------------------------------------------------------------ what cannot be run

    def _undecodable(self, message: Delivered, error: BaseException) -> Refused:
        logger.critical(
            consumers.MESSAGE_DECODE_ERROR,
            error,
            message.content_type,
            message.content_encoding,
            safe_repr(message.headers),
            _dump(message),
            exc_info=(type(error), error, error.__traceback__),
        )
        _name_it(message, error)
        message.ack()
        return Refused(message.decision, detail=error)

    def _invalid(self, message: Delivered, body: Any, error: Exception) -> Refused:
        logger.error(
            consumers.INVALID_TASK_ERROR,
            error,
            _dump(message, body),
            exc_info=(type(error), error, error.__traceback__),
        )
        _name_it(message, error)
        message.reject()
        signals.task_rejected.send(sender=self.sender, message=message, exc=error)
        return Refused(message.decision, detail=error)

    def _malformed(self, message: Delivered, error: Exception) -> Refused:
        # Celery's worker ends here, and the message comes back to end the next one.
        _name_it(message, error)
        message.reject()
        signals.task_rejected.send(sender=self.sender, message=message, exc=error)
        return Refused(message.decision, detail=error)

    def _unknown_message(self, message: Delivered, body: Any) -> Refused:
        report = consumers.MESSAGE_REPORT.format(
            _dump(message, body),
            safe_repr(message.content_type),
            safe_repr(message.content_encoding),
            safe_repr(message.delivery_info),
            safe_repr(message.headers),
        )
        logger.warning(consumers.UNKNOWN_FORMAT, report)
        _name_it(message, "it names no task")
        message.reject()
        signals.task_rejected.send(sender=self.sender, message=message, exc=None)
        return Refused(message.decision, detail="it names no task")

    def _unknown(self, message: Delivered, name: Any) -> Refused:
        error = NotRegistered(name)
        logger.error(
            consumers.UNKNOWN_TASK_ERROR,
            KeyError(name),
            _dump(message),
            message.headers,
            message.delivery_info,
            exc_info=(NotRegistered, error, None),
        )
        _name_it(message, f"there is no task {name!r}")
        message.reject()
        task_id = self._id(message)
        try:
            if task_id:
                self.app.backend.mark_as_failure(task_id, error, request=self._stand_in(message, name))
        except Exception as failed:
            logger.error("Cannot store the failure of message %r: %r", task_id, failed, exc_info=True)
        # Whatever `send_events` says: there is no task to say it.
        self.eventer.send("task-failed", uuid=task_id, exception=f"NotRegistered({name!r})")
        signals.task_unknown.send(sender=self.sender, message=message, exc=error, name=name, id=task_id)
        return Refused(message.decision, why="unknown", detail=f"there is no task {name!r}")

    def _id(self, message: Delivered) -> Any:
        if "id" in message.headers:
            return message.headers["id"]
        payload = message.payload
        return payload.get("id") if isinstance(payload, dict) else None

    @staticmethod
    def _stand_in(message: Delivered, name: Any) -> Any:
        return Bunch(
            name=name,
            chord=None,
            root_id=message.headers.get("root_id"),
            correlation_id=message.properties.get("correlation_id"),
            reply_to=message.properties.get("reply_to"),
            errbacks=None,
        )


def _dump(message: Delivered, body: Any = None) -> str:
    text: str = consumers.dump_body(message, body) if message.body is not None else "(no body)"
    return text


def _name_it(message: Delivered, reason: object) -> None:
    headers = message.headers if isinstance(message.headers, dict) else {}
    name = headers.get("id") or message.delivery_tag
    because = f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else reason
    logger.error("Message %s was refused: %s", name, because)
