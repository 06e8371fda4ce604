"""Settings of a native application: Celery's names, each with its type, its default and what it means."""

from __future__ import annotations

import difflib
import importlib
import logging
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from fastq.errors import SettingError

logger: logging.Logger = logging.getLogger(__name__)

#: How names begin that are meant as settings.
_BEGINNINGS = ("accept_content", "beat_", "broker_", "event_", "redis_", "result_", "task_", "worker_")

#: In front of a value on the command line.
_CAST = re.compile(r"^\((?:dict|list|tuple|int|float|bool|str|json)\)")

Wire = Literal["celery", "fastq"]


class Settings(msgspec.Struct, kw_only=True):
    """What holds for a whole application. Times are in seconds, sizes in KiB, zones by their IANA names."""

    # ------------------------------------------------------------------------ addresses
    broker_url: str = "redis://127.0.0.1:6379/0"
    #: Where results are stored; None: nowhere. One Redis database can be both.
    result_backend: str | None = None
    broker_transport_options: dict[str, Any] = {}
    result_backend_transport_options: dict[str, Any] = {}
    #: Keyword arguments of redis-py for TLS, or True.
    broker_use_ssl: dict[str, Any] | bool | None = None
    #: None: as long as the worker runs.
    broker_connection_max_retries: int | None = 100
    broker_connection_timeout: float | None = 4.0

    # ------------------------------------------------------------------------ sending
    #: How messages are written: as Celery does (protocol 2), or as short MessagePack that only fastq reads.
    wire: Wire = "celery"
    #: "" is `celery` for wire="celery", and `fastq` for wire="fastq".
    task_default_queue: str = ""
    task_default_priority: int | None = None
    #: Queues that a worker without -Q consumes; empty: the default queue, and those of routes and tasks.
    task_queues: list[str] = []
    #: By task name or pattern (`video.*`): {"queue": ..., "priority": ...}, or functions; see `fastq.app.routes`.
    task_routes: Any = None
    #: Replicas that have to confirm each message (`fastq.producer.Replicas`); None: none is asked.
    publish_confirm: Any = None
    #: Bounds of the buffer that collects messages before they are sent (`fastq.producer.Buffering`); None: no buffer.
    #: For `delay` and `apply_async`; programs with an event loop need none.
    publish_buffer: Any = None

    # ------------------------------------------------------------------------ tasks
    task_acks_late: bool = False
    task_acks_on_failure_or_timeout: bool = True
    task_reject_on_worker_lost: bool = False
    task_ignore_result: bool = False
    task_store_errors_even_if_ignored: bool = False
    task_track_started: bool = False
    task_time_limit: float | None = None
    task_soft_time_limit: float | None = None
    task_default_rate_limit: str | None = None
    task_send_sent_event: bool = False
    #: Run tasks where they are sent, at once, for tests; see `app.testing`.
    task_always_eager: bool = False
    task_eager_propagates: bool = False
    #: Seconds that a result is kept; None or 0: for ever.
    result_expires: float | None = 86400.0
    #: Bytes of a stored result at most, as JSON. What is larger fails with ResultTooLarge. Redis takes 512 MiB.
    result_max_bytes: int = 128 * 1024 * 1024
    #: Store name, arguments, worker and queue with each result.
    result_extended: bool = False

    # ------------------------------------------------------------------------ the worker
    imports: list[str] = []
    include: list[str] = []
    #: Coroutine tasks that one child has in flight at most (`--coroutines`); 1024 at most.
    worker_coroutines: int = 100
    worker_concurrency: int | Literal["auto"] | None = None
    worker_prefetch_multiplier: int = 4
    worker_max_tasks_per_child: int | None = None
    worker_max_memory_per_child: int | None = None
    worker_send_task_events: bool = False
    worker_enable_remote_control: bool = True
    worker_log_format: str = ""
    worker_task_log_format: str = ""
    worker_hijack_root_logger: bool = True
    control_exchange: str = "celery"

    # ------------------------------------------------------------------------ time
    timezone: str = "UTC"
    enable_utc: bool = True
    #: Entries by name: {"task": ..., "schedule": ..., "args": ..., "kwargs": ..., "options": ...}.
    beat_schedule: dict[str, Any] = {}

    @property
    def default_queue(self) -> str:
        """The queue of a task that nobody has routed."""
        return self.task_default_queue or ("celery" if self.wire == "celery" else "fastq")

    def update(
        self, found: Mapping[str, Any] | None = None, *, where: str = "conf.update", strict: bool = True, **more: Any
    ) -> None:
        """Take over what is given, checked; unless `strict`, text may stand for numbers and switches.

        Raises SettingError for an unknown name or a value of the wrong type."""
        found = {**(found or {}), **more}
        unknown = [name for name in found if name not in self.__struct_fields__]
        if unknown:
            raise SettingError(f"{where}: {_unknown(unknown[0], self.__struct_fields__)}")
        for name, value in found.items():
            setattr(self, name, self._checked(name, value, where=where, strict=strict))

    @classmethod
    def _checked(cls, name: str, value: Any, *, where: str, strict: bool) -> Any:
        if name in ("task_routes", "beat_schedule"):
            return value  # functions and schedules are no plain values; who reads them checks them
        wanted = {field.name: field.type for field in msgspec.structs.fields(cls)}[name]
        try:
            return msgspec.convert(value, wanted, strict=strict)
        except msgspec.ValidationError as error:
            raise SettingError(f"{where}: {name} is {value!r}: {error}") from error


def read_overrides(given: Mapping[str, str]) -> dict[str, Any]:
    """Settings from the command line: objects and lists as JSON, with Celery's casts such as `(dict)` before them or
    without; all else stays text, for `update` with `strict=False`. Raises SettingError for what is no JSON."""
    return {name: _from_text(name, _CAST.sub("", text)) for name, text in given.items()}


def _from_text(name: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text) if text[:1] in ("{", "[") else text
    except msgspec.DecodeError as error:
        raise SettingError(f"a setting after --: {name} is {text!r}, which is no JSON: {error}") from error


def _unknown(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else "; the settings are listed in docs/reference/settings.md"
    return f"there is no setting {name!r}{meant}"


def read_object(source: Any, *, namespace: str = "") -> dict[str, Any]:
    """The settings in a module (or its dotted name), a class, an object or a mapping.

    With a namespace only what begins with it counts: namespace="FASTQ" reads FASTQ_BROKER_URL as broker_url. Without,
    names in lower case that are settings count, so that a module may hold other things; those that begin as settings do
    and are none, misspelt ones and some of Celery's, are named in the log. Raises SettingError for a module that is not
    there.
    """
    found = _fields(_load(source))
    if not namespace:
        if isinstance(source, Mapping):
            return found
        _warn_of(found, source)
        return {name: value for name, value in found.items() if name in Settings.__struct_fields__}
    prefix = f"{namespace.upper()}_"
    return {name[len(prefix) :].lower(): value for name, value in found.items() if name.upper().startswith(prefix)}


def _warn_of(found: Mapping[str, Any], source: Any) -> None:
    unknown = [
        name
        for name, value in found.items()
        if name.startswith(_BEGINNINGS) and name not in Settings.__struct_fields__ and not callable(value)
    ]
    if unknown:
        logger.warning("config_from_object(%r): these are no settings of native applications: %s", source, unknown)


def _load(source: Any) -> Any:
    if not isinstance(source, str):
        return source
    module, _, attribute = source.partition(":")
    try:
        found = importlib.import_module(module)
        return getattr(found, attribute) if attribute else found
    except (ImportError, AttributeError) as error:
        raise SettingError(f"config_from_object({source!r}): {error}") from error


def _fields(source: Any) -> dict[str, Any]:
    if isinstance(source, Mapping):
        return {str(name): value for name, value in source.items()}
    return {name: getattr(source, name) for name in dir(source) if not name.startswith("_")}
