"""The fast way to run plain tasks: what `fastq._core.Runner` needs to know of Celery, and what it hands back.

The runner does, compiled, what Celery's tracer does when all goes well. When anything goes wrong, `Failure` does the
rest of what the tracer would have done, with the tracer's own helpers. A task whose tracer anybody has replaced, or
that overrides a step which is not compiled, takes the full way (`execute.py`).
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import threading
import types
from collections.abc import Callable
from typing import Any

import msgspec
from celery import VERSION, _state, signals
from celery.app import trace as celery_trace
from celery.app.base import Celery
from celery.app.task import Context, Task
from celery.backends.base import Backend
from celery.loaders.base import BaseLoader
from celery.result import ResultBase
from kombu.serialization import dumps, registry
from kombu.utils import json as kombu_json
from kombu.utils.json import loads

from fastq import _core
from fastq.child.events import Eventer
from fastq.compat.celery.context import CalledContext, PlainContext, reprs_of
from fastq.compat.celery.events import shower
from fastq.compat.celery.failure import Failure
from fastq.compat.celery.results import ResultRing, compression_of
from fastq.results.redis import GUARD
from fastq.wire.packed import read_arguments


class FastWay:
    """Decides which tasks are plain, and makes the runner of one child."""

    def __init__(
        self,
        app: Any,
        *,
        hostname: str,
        names: list[str],
        rings: list[ResultRing],
        failure: Failure,
        eventer: Eventer,
        max_tasks: int | None,
    ) -> None:
        self.app: Any = app
        self.hostname: str = hostname
        self.names: list[str] = names
        self.max_tasks: int | None = max_tasks
        self.failure: Failure = failure
        self.eventer: Eventer = eventer
        self._rings = {id(ring.backend): ring for ring in rings}
        self._main_ring = self._rings.get(id(app.backend))
        self._encoder = quick_encoder()
        self._possible = _tracer_is_celerys() and _hooks_are_celerys(app)

    def runner(self, port: Any, *, idle_s: float = -1.0) -> Any:
        """The compiled runner. It leaves to Python what `prepare` has no answer for.

        `idle_s`: seconds without a task after which it returns; negative for never.
        """
        ring = self._main_ring
        backend = ring.backend if ring else None
        pen: Any = self.eventer.pen
        return _core.Runner(
            port,
            tasks=len(self.names),
            task_stack=stack_of(_state._task_stack),
            prepare=self.prepare,
            decode=msgspec.json.Decoder().decode,
            loads=loads,
            unpack=read_arguments,
            encode=self._encode,
            quote=json.encoder.encode_basestring_ascii,
            stamp=self._stamp,
            on_error=self.failure,
            hostname=self.hostname,
            prerun=signals.task_prerun,
            postrun=signals.task_postrun,
            success=signals.task_success,
            key_prefix=backend.task_keyprefix if backend else b"",
            expires_s=backend.expires if backend else None,
            guard=GUARD,
            started=self._encode({"pid": os.getpid(), "hostname": self.hostname}).encode(),
            # Before 5.7 a message could not ask for the result of a task that ignores its results.
            task_decides=VERSION < (5, 7),
            max_tasks=self.max_tasks or 0,
            idle_s=idle_s,
            pen=pen,
        )

    # ------------------------------------------------------------------------ tasks

    def prepare(self, index: int) -> Any:
        """The task of this number for the runner; None if its messages are Python's."""
        task = self.app.tasks.get(self.names[index])
        if task is None or not self._possible or not is_plain(task, self.app):
            return None
        called = calls_itself(task)
        ring = self._rings.get(id(task.backend))
        in_ring = ring is not None and ring is self._main_ring and self._is_simple(ring.backend)
        if task.track_started and not in_ring:
            return None
        return _core.PlainTask(
            task,
            fun=task if called else task.run,
            request_class=CalledContext if called else PlainContext,
            requests=stack_of(task.request_stack),
            store=_storer(task, ring),
            follow=_follower(task, self.app),
            cleanup=_cleanup(task, self.app.loader),
            log_success=_success_logger(task),
            show=shower(task),
            in_ring=in_ring,
            tracked=bool(task.track_started),
        )

    def _is_simple(self, backend: Any) -> bool:
        """JSON without compression and without `result_extended`: the result can be written by the runner."""
        extended = self.app.conf.find_value_for_key("extended", "result")
        # Before 5.5 results were dated in another zone.
        clock_is_celerys = type(self.app).now is Celery.now and VERSION >= (5, 5)
        return bool(backend.serializer == "json" and not compression_of(backend) and not extended and clock_is_celerys)

    # ------------------------------------------------------------------------ values

    def _encode(self, value: Any) -> str:
        """A value as the result store's JSON. Raises kombu's EncodeError."""
        if isinstance(value, ResultBase):
            value = value.as_tuple()
        if self._encoder is not None:
            try:
                return "".join(self._encoder(value, 0))
            except Exception:
                # The encoder remembers what it is inside of: start afresh, and let kombu say what is wrong.
                self._encoder = quick_encoder()
        text: str = dumps(value, serializer="json")[2]
        return text

    def _stamp(self, second: int) -> tuple[bytes, bytes]:
        """`app.now().isoformat()` for a whole second, split where the microseconds stand."""
        utc = datetime.datetime.fromtimestamp(second, datetime.timezone.utc)
        text = utc.astimezone(self.app.timezone).isoformat().encode()
        return text[:19], text[19:]


def quick_encoder() -> Callable[[Any, int], Any] | None:
    """What kombu's `dumps` makes for each call, made once; None if the application has another encoder for JSON."""
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if registry._encoders["json"].encoder is not kombu_json.dumps or make is None:
        return None
    quote = json.encoder.encode_basestring_ascii
    default = kombu_json.JSONEncoder().default
    # markers, default, encoder, indent, key separator, item separator, sort_keys, skipkeys, allow_nan
    found: Callable[[Any, int], Any] = make({}, default, quote, None, ": ", ", ", False, False, True)
    return found


def stack_of(stack: Any) -> Any:
    """A stack of Celery's for the runner; with its own dictionary if it is the usual kind."""
    local: Any = getattr(stack, "_local", None)
    storage = getattr(local, "__storage__", None)
    ident = threading.get_ident()
    if type(stack).__name__ != "_LocalStack" or not isinstance(storage, dict) or local.__ident_func__() != ident:
        storage = None
    return _core.Stack(stack, storage, ident)


# ---------------------------------------------------------------------------- what is plain


def _is_celerys(function: Any, module: str, name: str) -> bool:
    """True for the very function that Celery defines there.

    No wrapper, whatever it says it is: New Relic's answers `isinstance` and `__code__` as what it wraps.
    """
    if type(function) is not types.FunctionType:
        return False
    code = function.__code__
    return code.co_name == name and code.co_filename == sys_file(module)


def sys_file(module: str) -> str:
    """The file that a loaded module came from."""
    import sys

    return str(sys.modules[module].__file__)


def _tracer_is_celerys() -> bool:
    build = celery_trace.build_tracer
    return _is_celerys(build, "celery.app.trace", "build_tracer") and celery_trace.Context is Context


def _hooks_are_celerys(app: Any) -> bool:
    on_task_init = type(app.loader).on_task_init
    return on_task_init is BaseLoader.on_task_init and not signals.task_received.receivers


def is_plain(task: Any, app: Any) -> bool:
    """True if nothing about this task asks for a step that the runner does not do."""
    return not why_not_plain(task, app)


def why_not_plain(task: Any, app: Any) -> str:
    """What asks for a step that the runner does not do; empty if nothing does."""
    custom = [
        step for step in ("before_start", "on_success", "after_return") if celery_trace.task_has_custom(task, step)
    ]
    if custom:
        return f"it has its own {custom[0]}"
    if task.Request != "celery.worker.request:Request":
        return "it has its own Request class"
    if app.conf.worker_deduplicate_successful_tasks and (app.conf.task_acks_late or task.acks_late):
        return "worker_deduplicate_successful_tasks"
    return "its tracer is built already" if task.__trace__ is not None else ""


def calls_itself(task: Any) -> bool:
    """True if the task class has a `__call__` of its own. Celery's stack protection in the base class is none."""
    return bool(type(task).__call__ is not Task.__call__)


def _storer(task: Any, ring: ResultRing | None) -> Callable[[Any, Any], None]:
    def store(request: Any, value: Any) -> None:
        if ring is not None:
            ring.open = True
        try:
            task.backend.mark_as_done(request.id, value, request, True)
        finally:
            if ring is not None:
                ring.open = False

    return store


def _follower(task: Any, app: Any) -> Callable[[Any, Any, bool], bool]:
    def follow(request: Any, value: Any, ignore: bool) -> bool:
        """For a task that looked at its request: do what it asked for there; False if that was nothing."""
        if not (request.callbacks or request.chain or request.chord or (request.ignore_result and not ignore)):
            return False
        dispatch(app, request, value)
        task.backend.mark_as_done(request.id, value, request, not ignore)
        return True

    return follow


def dispatch(app: Any, request: Any, value: Any) -> None:
    """Send the callbacks, then the next of the chain, as Celery's tracer does."""
    signature, group = app._canvas.maybe_signature, app._canvas.group
    options = {
        "parent_id": request.id,
        "root_id": request.root_id or request.id,
        "priority": request.delivery_info.get("priority") if app.conf.task_inherit_parent_priority else None,
    }
    callbacks = [signature(callback, app=app) for callback in request.callbacks or ()]
    groups = [callback for callback in callbacks if isinstance(callback, group)] if len(callbacks) > 1 else []
    others = [callback for callback in callbacks if callback not in groups]
    if len(others) > 1 or groups:
        others = [group(others, app=app)] if others else []
    publish = getattr(app.amqp, "_retry_publish", _publish)
    for callback in (*groups, *others):
        publish(callback.apply_async, (value,), **options)
    if request.chain:
        following = signature(request.chain[-1], app=app)
        publish(following.apply_async, (value,), chain=request.chain[:-1], **options)


def _publish(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    # Celery before 5.7.
    return function(*args, **kwargs)


def _cleanup(task: Any, loader: Any) -> Callable[[], None] | None:
    """What Celery does after each task, unless both halves of it are empty."""
    backend_has = type(task.backend).process_cleanup is not Backend.process_cleanup
    loader_has = type(loader).on_process_cleanup is not BaseLoader.on_process_cleanup
    if not backend_has and not loader_has:
        return None

    def cleanup() -> None:
        try:
            task.backend.process_cleanup()
            loader.on_process_cleanup()
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except Exception as error:
            celery_trace.logger.error("Process cleanup failed: %r", error, exc_info=True)

    return cleanup


def _success_logger(task: Any) -> Callable[[Any, Any, float], None] | None:
    if not celery_trace.logger.isEnabledFor(logging.INFO):
        return None

    def log_success(request: Any, value: Any, runtime_s: float) -> None:
        args, kwargs = reprs_of(request)
        celery_trace.info(
            celery_trace.LOG_SUCCESS,
            {
                "id": request.id,
                "name": task.name,
                "return_value": celery_trace.saferepr(value, task.resultrepr_maxsize),
                "runtime": runtime_s,
                "args": args or celery_trace.safe_repr(request.args),
                "kwargs": kwargs or celery_trace.safe_repr(request.kwargs),
            },
        )

    return log_success
