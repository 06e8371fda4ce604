"""Make the stored record of a task's state, as Celery's Redis backend writes it, and the commands that store it."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from fastq import clock
from fastq.errors import ResultTooLarge
from fastq.producer.post import pack
from fastq.producer.store import RESULT_KEY, Store
from fastq.results.redis import ENDS, guarded, set_commands
from fastq.wire.brief import safe_repr
from fastq.wire.kombu_json import encode_text

if TYPE_CHECKING:
    from fastq.app.app import FastQ
    from fastq.app.running.context import Request

#: What is stored for a task that was not run to its end: (exc_type, exc_module) as Celery names it.
REVOKED = {"exc_type": "TaskRevokedError", "exc_module": "celery.exceptions"}


class Results:
    """Where one application stores results; `enabled` is False if it has no result store."""

    def __init__(self, app: FastQ) -> None:
        conf = app.conf
        self.enabled: bool = bool(conf.result_backend)
        prefix = str(conf.result_backend_transport_options.get("global_keyprefix") or "")
        self.key_prefix: bytes = (prefix + RESULT_KEY).encode()
        self.expires_s: int | None = _seconds(conf.result_expires)
        #: Bytes of a record at most.
        self.largest: int = conf.result_max_bytes
        # Of the tasks that have their own.
        self._own_expires_s = {
            name: _seconds(task.options.result_expires)
            for name, task in app.tasks.items()
            if task.options.result_expires is not None
        }

    def commands(
        self, state: str, value: Any, *, request: Request, traceback: str | None = None, began: str = ""
    ) -> tuple[int, bytes]:
        """(how many, RESP) commands that store the state; (0, b"") without a store. Raises what encoding raises.

        `began`: when the attempt began (`moment`), for states that are no end: what has ended since then stays.
        Raises ResultTooLarge, too.
        """
        if not self.enabled:
            return 0, b""
        key = self.key_prefix + request.id.encode()
        data = encode_text(self.record(state, value, request=request, traceback=traceback)).encode()
        if len(data) > self.largest:
            raise ResultTooLarge(
                f"the result has {len(data):,} bytes as JSON, result_max_bytes allows {self.largest:,}; "
                "store it elsewhere and return where it is"
            )
        expires_s = self.expires_s
        if self._own_expires_s:
            expires_s = self._own_expires_s.get(request.message.header.task or "", expires_s)
        if state == "SUCCESS":
            return set_commands(key, data, expires_s)
        return guarded(key, data, expires_s, began="" if state in ENDS else began)

    def foreign(
        self, task_id: str, error: Any, *, traceback: str | None, group_id: str | None, state: str = "FAILURE"
    ) -> tuple[int, bytes]:
        """The same for the failure of a task that will not run. `error` is what `error_fields` returns."""
        if not self.enabled:
            return 0, b""
        fields = {"status": state, "result": error, "traceback": traceback, "children": []}
        group = {"group_id": group_id} if group_id else {}
        record = {**fields, "date_done": moment(clock.now()), **group, "task_id": task_id}
        return guarded(self.key_prefix + task_id.encode(), encode_text(record).encode(), self.expires_s)

    def flag(self, task_id: str, store: Store) -> None:
        """Store REVOKED for a task of which nothing is stored; what a worker has stored stays. Blocks.

        Raises ResultsUnavailable.
        """
        if not self.enabled:
            return
        key = self.key_prefix + task_id.encode()
        fields = {"status": "REVOKED", "result": {**REVOKED, "exc_message": ["revoked"]}, "traceback": None}
        data = encode_text({**fields, "children": [], "date_done": moment(clock.now()), "task_id": task_id}).encode()
        expires: tuple[str, ...] = ("EX", str(self.expires_s)) if self.expires_s else ()
        if store.run(pack("SET", key, data, "NX", *expires), 1)[0] is not None:
            store.run(pack("PUBLISH", key, data), 1)

    def record(self, state: str, value: Any, *, request: Request, traceback: str | None) -> dict[str, Any]:
        """The fields, in Celery's order."""
        fields = {
            "status": state,
            "result": value,
            "traceback": traceback,
            "children": [child.as_tuple() for child in request._children],
            "date_done": moment(clock.now()) if state in ENDS else None,
        }
        ids = {"group_id": request.group, "parent_id": request.parent_id}
        return {**fields, **{name: found for name, found in ids.items() if found}, "task_id": request.id}


def _seconds(given: float | None) -> int | None:
    """How long Redis is told to keep a result: whole seconds, one at least; None for ever."""
    return max(1, int(given)) if given else None


def moment(at: float) -> str:
    """Seconds since 1970 as results are dated."""
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).isoformat()


def error_fields(error: BaseException) -> dict[str, Any]:
    """An error as Celery stores it: type, arguments, module. Arguments that are no JSON are shown as text."""
    return {
        "exc_type": type(error).__name__,
        "exc_message": [_plain(argument) for argument in error.args],
        "exc_module": type(error).__module__,
    }


def _plain(argument: Any) -> Any:
    try:
        encode_text(argument)
    except Exception:
        return safe_repr(argument)
    return argument
