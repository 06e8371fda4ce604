"""Send what Celery's Redis backend would store through the engine instead: as RESP commands in the result ring.

Only what the tracer stores goes this way (STARTED, SUCCESS, FAILURE, RETRY, REVOKED), and only where nothing of Celery
reads it back at once. A chord, an errback and a chain use the backend's own connection. So does whatever user code
stores itself (`update_state`), except behind a STARTED that went through the ring, which it must not overtake.
"""

from __future__ import annotations

import os
import threading
import types
from collections.abc import Callable
from typing import Any

from celery import __file__ as celery_file

from fastq.results.redis import ENDS, guarded, set_commands

#: What has to be Celery's own for results to go through the ring: storing is replaced, so nobody else may have.
_METHODS = (
    "mark_as_done",
    "mark_as_failure",
    "mark_as_retry",
    "mark_as_revoked",
    "store_result",
    "encode_result",
    "encode",
    "_encode",
    "prepare_value",
    "prepare_exception",
    "_ensure_retryable",
    "_store_result",
    "_get_result_meta",
    "_get_task_meta_for",
    "_set_with_state",
    "get_key_for_task",
    "_get_key_for",
    "set",
    "_set",
    "ensure",
)


def goes_through_ring(backend: Any) -> bool:
    """True for exactly Celery's Redis backends, with nothing patched that matters here."""
    from celery.backends.redis import RedisBackend, SentinelBackend

    cls = type(backend)
    if cls not in (RedisBackend, SentinelBackend) or backend.connparams.get("credential_provider"):
        return False
    own = vars(backend)
    return all(name not in own and _is_celerys(cls, name) for name in _METHODS)


def _is_celerys(cls: type, name: str) -> bool:
    # Not every version of Celery has all of them. Wrappers take over `__module__`, and some every other attribute.
    function = getattr(cls, name, None)
    return function is None or (
        type(function) is types.FunctionType and function.__code__.co_filename.startswith(os.path.dirname(celery_file))
    )


def compression_of(backend: Any) -> Any:
    """How results are compressed; Celery before 5.7 never does."""
    return getattr(backend, "compression", None)


class ResultRing:
    """Stands in for the storing methods of one backend while a frame is carried out in the main thread."""

    def __init__(self, backend: Any, *, store: Callable[[int, bytes], None]) -> None:
        self.backend = backend
        self.store = store
        self.open = False
        #: When the current attempt began, as the result store writes times.
        self.began = ""
        #: The task whose STARTED went through the ring: by `store_result` here, or by the compiled runner.
        self.announced: str | None = None
        self.runner: Any = None
        self._thread = threading.get_ident()
        # A look first is spared only where SUCCESS can be recognised by its first bytes.
        self._guards = backend.serializer == "json" and not compression_of(backend)

    def install(self) -> None:
        """Put the methods into the instance; the class stays as it is."""
        for name in ("mark_as_done", "mark_as_failure", "mark_as_retry", "mark_as_revoked", "store_result"):
            setattr(self.backend, name, getattr(self, name))

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        if not kwargs and self._is_in_order(task_id, state, request):
            self._send(task_id, result, state, traceback, request)
            return self.backend.encode_result(result, state)
        return type(self.backend).store_result(
            self.backend, task_id, result, state, traceback=traceback, request=request, **kwargs
        )

    def _is_in_order(self, task_id: str, state: str, request: Any) -> bool:
        """Whether a state goes through the ring: STARTED of the tracer, and what the same task stores afterwards."""
        if not self._guards or threading.get_ident() != self._thread:
            return False
        if state == "STARTED" and self._is_ours(request):
            self.announced = task_id
            return True
        by_runner = self.runner.announced if self.runner is not None else None
        return bool(task_id) and task_id in (self.announced, by_runner)

    def mark_as_done(
        self, task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = "SUCCESS"
    ) -> Any:
        if self._applies(request) and state == "SUCCESS":
            if store_result and not request.ignore_result:
                self._send(task_id, result, state, None, request)
            return None
        return type(self.backend).mark_as_done(self.backend, task_id, result, request, store_result, state)

    def mark_as_failure(
        self,
        task_id: str,
        exc: Any,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = "FAILURE",
    ) -> Any:
        if self._guards and self._applies(request) and not _continues(request, call_errbacks):
            if store_result:
                self._send(task_id, exc, state, traceback, request)
            return None
        return type(self.backend).mark_as_failure(
            self.backend, task_id, exc, traceback, request, store_result, call_errbacks, state
        )

    def mark_as_retry(
        self,
        task_id: str,
        exc: Any,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        state: str = "RETRY",
    ) -> Any:
        if self._guards and self.began and self._is_ours(request):
            self._send(task_id, exc, state, traceback, request)
            return None
        return type(self.backend).mark_as_retry(self.backend, task_id, exc, traceback, request, store_result, state)

    def mark_as_revoked(
        self, task_id: str, reason: str = "", request: Any = None, store_result: bool = True, state: str = "REVOKED"
    ) -> Any:
        from celery.exceptions import TaskRevokedError

        if self._guards and self._applies(request):
            if store_result:
                self._send(task_id, TaskRevokedError(reason), state, None, request)
            return None
        return type(self.backend).mark_as_revoked(self.backend, task_id, reason, request, store_result, state)

    def _applies(self, request: Any) -> bool:
        return self._is_ours(request) and not request.chord

    def _is_ours(self, request: Any) -> bool:
        return bool(self.open and request and threading.get_ident() == self._thread)

    def _send(self, task_id: str, result: Any, state: str, traceback: Any, request: Any) -> None:
        from kombu.utils.encoding import bytes_to_str

        backend = self.backend
        meta = backend._get_result_meta(
            result=backend.encode_result(result, state), state=state, traceback=traceback, request=request
        )
        meta["task_id"] = bytes_to_str(task_id)
        value = backend.encode(meta)
        data = value.encode() if isinstance(value, str) else bytes(value)
        if len(data) > backend._MAX_STR_VALUE_SIZE:
            backend._store_result(task_id, result, state, traceback, request=request)
            return
        key = backend.get_key_for_task(task_id)
        expires_s = backend.expires
        if state == "FAILURE":
            expires_s = getattr(backend, "failure_expires", expires_s)
        if state == "SUCCESS":
            self.store(*set_commands(key, data, expires_s))
        else:
            self.store(*guarded(key, data, expires_s, began="" if state in ENDS else self._since()))

    def _since(self) -> str:
        # In a plain task the runner knows when it began; now is late enough, for the task runs and has no end yet.
        return self.began or str(self.backend.app.now().isoformat())


def _continues(request: Any, call_errbacks: bool) -> bool:
    # Others are told of the failure, and may look for it.
    return bool(getattr(request, "chain", None) or (call_errbacks and getattr(request, "errbacks", None)))
