"""From a call to a push: which key, which messages, which ids. No input, no output; the same for every producer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from fastq import clock
from fastq.errors import OptionError
from fastq.producer.ids import uuids
from fastq.producer.message import Stencil
from fastq.producer.options import Keys, Options
from fastq.wire.moment import parse_iso

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastq.producer.message import Arguments
    from fastq.producer.options import SendOptions, Wire
    from fastq.producer.packed import PackedStencil

#: Stencils kept. Programs send few tasks with few sets of options; one that does not is no worse off than without.
CACHED = 1000

#: Options that are counted from the moment of sending, or that hardly two messages share: no stencil is kept for them.
_PASSING = frozenset({"countdown", "eta", "expires", "group_id", "group_index", "parent_id", "root_id"})

#: No option is more seconds than these: what is beyond is a mistake, and no date holds it.
LONGEST_S = 100 * 365 * 86_400.0


class _Form(NamedTuple):
    """A stencil and the key that its messages go to."""

    key: str
    stencil: Stencil | PackedStencil


class Push(NamedTuple):
    """Messages for one key, with the ids of their tasks in the same order: what one LPUSH takes."""

    key: str
    messages: list[Any]
    ids: list[str]


class Composer:
    """Writes the messages of one producer. Threads may share it."""

    def __init__(
        self,
        *,
        queue: str,
        priority: int,
        serializer: str,
        wire: Wire,
        ignore_result: bool | None,
        transport_options: Mapping[str, Any] | None,
    ) -> None:
        if serializer != "json":
            raise OptionError(f"the producer writes serializer 'json' only, not {serializer!r}; send it with Celery")
        if wire not in ("celery", "fastq"):
            raise OptionError(f"wire={wire!r} is neither 'celery' nor 'fastq'")
        self._wire = wire
        self._queue = queue
        self._priority = priority
        self._ignore_result = ignore_result
        self._keys = Keys.from_options(transport_options)
        # Celery names the queue of the thread here, for results by rpc://. We store none there, so one name is enough.
        self._reply_to = uuids(1)[0]
        self._forms: dict[Any, _Form] = {}
        self._pid = os.getpid()

    def one(self, name: str, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, given: SendOptions) -> Push:
        """Return one message. Raises OptionError for an option that does not exist."""
        task_id = given.pop("task_id", None) if given else None
        if task_id is not None:
            _refuse_no_text("task_id", task_id)
        form = self._form(name, given)
        ids = uuids(form.stencil.ids_each)
        if task_id is not None:
            ids[0] = task_id
        return Push(form.key, form.stencil.fill(((args, kwargs),), ids), ids[:1])

    def ignores(self, given: SendOptions) -> bool:
        """Whether a message with these options says that its result is not stored."""
        return bool(given.get("ignore_result", self._ignore_result))

    def many(self, name: str, some: Sequence[Arguments], given: SendOptions) -> Push:
        """Return a message for each (args, kwargs)."""
        if "task_id" in given:
            raise OptionError(f"task_id={given['task_id']!r} is for one message; send_many makes an id for each")
        form = self._form(name, given)
        each = form.stencil.ids_each
        ids = uuids(each * len(some))
        try:
            return Push(form.key, form.stencil.fill(some, ids), ids[::each])
        except (TypeError, ValueError):
            _refuse_other_than_pairs(some)
            raise

    def _form(self, name: str, given: SendOptions) -> _Form:
        if self._pid != os.getpid():  # a message says which process it is from
            self._pid, self._forms = os.getpid(), {}
        try:
            kept: Any = (name, *given.items()) if given else name
            return self._forms[kept]
        except KeyError:
            form = self._make(name, given)
        except TypeError:  # headers, which are a dict
            return self._make(name, given)
        if not _PASSING & given.keys():
            if len(self._forms) >= CACHED:
                self._forms.clear()
            self._forms[kept] = form
        return form

    def _make(self, name: str, given: SendOptions) -> _Form:
        options = self._options(given)
        queue = options.queue or self._queue
        priority = self._priority if options.priority is None else options.priority
        stencil = self._stencil(name, options, queue=queue, priority=priority, now=clock.utc_now())
        return _Form(self._keys.key(queue, priority=priority), stencil)

    def _stencil(
        self, name: str, options: Options, *, queue: str, priority: int, now: datetime
    ) -> Stencil | PackedStencil:
        if self._wire == "celery":
            return Stencil(name, options=options, queue=queue, priority=priority, reply_to=self._reply_to, now=now)
        from fastq.producer.packed import PackedStencil  # msgspec's encoders, for those who want them

        return PackedStencil(name, options=options, queue=queue, priority=priority, now=now, canvas=options.embed)

    def _options(self, given: SendOptions) -> Options:
        if self._ignore_result is not None:
            given = {"ignore_result": self._ignore_result, **given}
        try:
            options = Options(**given)
        except TypeError as exc:
            raise OptionError(f"{exc}; the options of a send are {', '.join(Options.__struct_fields__)}") from exc
        for name, value in given.items():
            check = _CHECKS.get(name)
            if check is not None and value is not None:
                check(name, value)
        return options


def _refuse_no_moment(name: str, value: Any) -> None:
    """A worker could only put the message aside."""
    cause = None
    try:
        if isinstance(value, datetime):
            return
        if isinstance(value, str):
            parse_iso(value)
            return
    except ValueError as error:
        cause = error
    raise OptionError(f"{name}={value!r} is no time; give a datetime, or ISO 8601 text") from cause


def _refuse_no_expiry(name: str, value: Any) -> None:
    check = _refuse_no_seconds if isinstance(value, (int, float)) else _refuse_no_moment
    check(name, value)


def _refuse_no_seconds(name: str, value: Any) -> None:
    if not isinstance(value, (int, float)) or not abs(value) < LONGEST_S:
        raise OptionError(f"{name}={value!r} is to be a number of seconds, less than a hundred years")


def _refuse_no_integer(name: str, value: Any) -> None:
    if not isinstance(value, int):
        raise OptionError(f"{name}={value!r} is to be an integer")


def _refuse_no_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise OptionError(f"{name}={value!r} is to be text, and not empty")


_CHECKS: Mapping[str, Callable[[str, Any], None]] = {
    "eta": _refuse_no_moment,
    "expires": _refuse_no_expiry,
    "countdown": _refuse_no_seconds,
    "time_limit": _refuse_no_seconds,
    "soft_time_limit": _refuse_no_seconds,
    "priority": _refuse_no_integer,
    "retries": _refuse_no_integer,
    "queue": _refuse_no_text,
}


def _refuse_other_than_pairs(some: Sequence[Any]) -> None:
    for each in some:
        if not isinstance(each, (tuple, list)) or len(each) != 2:
            raise TypeError(f"many tasks are sent as pairs (args, kwargs), such as ((42,), None), not {each!r}")
