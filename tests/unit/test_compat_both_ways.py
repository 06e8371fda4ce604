"""The law of the fast way: whatever a plain task does, runner and Celery's tracer leave the same behind."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from celery import VERSION, Celery, Task, signals
from celery.app import trace as celery_trace
from celery.exceptions import Ignore, SoftTimeLimitExceeded
from hypothesis import given
from hypothesis import strategies as st
from kombu.exceptions import OperationalError

from tests.child_lab import ChildLab, stored
from tests.core.ledger_lab import FAST
from tests.core.task_ring import KIND_OUTCOME, envelope

#: With FASTQ_FAST=0 there is no fast way to compare: the runner leaves every message to Python.
pytestmark = pytest.mark.skipif(not FAST, reason="compares the fast way, which FASTQ_FAST=0 switches off")

DATE = re.compile(rb"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?")
TRACEBACK = re.compile(rb'"traceback": "(?:[^"\\]|\\.)*"')


#: Both ways do the same with older versions too, but not this.
RULES_OF_57 = pytest.mark.skipif(VERSION < (5, 7), reason="Celery before 5.7 has other rules for ignored results")


class Watched(RuntimeError):
    """An exception that only tasks raise."""


class Called(Task):  # type: ignore[misc]
    """A task class with a `__call__` of its own, as Flask applications have it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return ["called", super().__call__(*args, **kwargs)]


class Colour(enum.IntEnum):
    RED = 1


class Number(int):
    """A subclass of a plain type."""


VALUES: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "true": lambda: True,
    "big": lambda: 10**40,
    "negative": lambda: -(2**63),
    "float": lambda: 0.1,
    "whole float": lambda: 1e16,
    "small": lambda: 5e-324,
    "nan": lambda: float("nan"),
    "inf": lambda: float("-inf"),
    "text": lambda: 'a"b\\c\n\x7fé\U0001f600\ud800',
    "enum": lambda: Colour.RED,
    "subclass": lambda: Number(7),
    "tuple": lambda: (1, (2, "x")),
    "nested": lambda: {"a": [1, {"b": None}], 3: 1.5},
    "datetime": lambda: datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc),
    "decimal": lambda: [decimal.Decimal("1.10")],
    "uuid": lambda: uuid.UUID(int=1),
    "bytes": lambda: b"\xff",
    "set": lambda: {1},
    "circular": lambda: _circular(),
    "huge integer": lambda: 10**5000,
}


def _circular() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def make_app(**settings: Any) -> Any:
    app = Celery("lab", broker="memory://", backend="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.update(settings)
    for name, (function, options) in TASKS.items():
        app.task(name=name, shared=False, **options)(function)
    app.finalize()
    return app


def _echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


def _value(kind: str) -> Any:
    return VALUES[kind]()


def _silent() -> int:
    return 1


def _field(self: Any, name: str) -> Any:
    return getattr(self.request, name)


def _called(self: Any, *args: Any) -> Any:
    return [*args, self.request._protected]


def _again(self: Any, again: bool) -> Any:
    return self(False) if again else self.request.called_directly


def _raise(kind: str, *args: Any) -> None:
    kinds = {
        "watched": Watched,
        "key": KeyError,
        "soft": SoftTimeLimitExceeded,
        "ignore": Ignore,
        "memory": MemoryError,
        "unencodable": lambda *_: Watched({1, 2}, object),
    }
    raise kinds[kind](*args)


def _fields(self: Any) -> Any:
    return {name: found for name, found in vars(self.request).items() if name != "_protected"}


def _progress(self: Any) -> int:
    self.update_state(state="PROGRESS", meta={"done": 1})
    self.update_state(state="OTHER", meta=[1])
    return 2


def _unpublishable(self: Any) -> str:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("the broker is away")

    self.request.callbacks = [self.app.tasks["t.silent"].s()]
    self.app.amqp._retry_publish = refuse
    return "unheard"


def _retry(self: Any) -> None:
    try:
        raise Watched("first")
    except Watched as error:
        raise self.retry(exc=error, countdown=1) from error


TASKS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "t.echo": (_echo, {}),
    "t.value": (_value, {}),
    "t.silent": (_silent, {"ignore_result": True}),
    "t.raise": (_raise, {}),
    "t.expected": (_raise, {"throws": (Watched,)}),
    "t.field": (_field, {"bind": True}),
    "t.fields": (_fields, {"bind": True}),
    "t.called": (_called, {"bind": True, "base": Called}),
    "t.again": (_again, {"bind": True}),
    "t.retry": (_retry, {"bind": True}),
    "t.progress": (_progress, {"bind": True}),
    "t.unpublishable": (_unpublishable, {"bind": True}),
}


class Left(NamedTuple):
    """What a frame leaves behind."""

    commands: list[list[bytes]]
    outcome: int | None
    redis: list[tuple[Any, ...]]
    signals: list[Any]


@pytest.fixture(autouse=True)
def _protected_stack() -> Iterator[None]:
    """Celery's worker patches its task class; so do both ways here, and undo it."""
    celery_trace._install_stack_protection()
    yield
    celery_trace.BaseTask.__call__ = celery_trace._patched.pop("BaseTask.__call__")
    del celery_trace.BaseTask._stackprotected


def run(
    message: bytes, *, fast: bool, late: bool = False, plain: bool = True, watch: bool = True, **settings: Any
) -> Left:
    """Run one message one way; `watch=False`: no receiver of a signal is there."""
    lab = ChildLab(make_app(**settings), fast=fast)
    try:
        lab.put(message, late=late)
        with watched_signals(watch) as seen:
            answers = lab.run()
    finally:
        lab.close()
    if fast and plain:
        assert lab.left_to_python == 0, "the runner declined a plain message"
    outcomes = [answer.outcome for answer in answers if answer.kind == KIND_OUTCOME]
    words = [[_without_time(word) for word in command] for command in stored(answers)]
    sent = [tuple(map(_without_time, words)) for words in lab.redis.sent]
    return Left(words, outcomes[0] if outcomes and late else None, sent, seen)


def _without_time(word: Any) -> Any:
    data = word.encode() if isinstance(word, str) else word
    if not isinstance(data, bytes):
        return word
    return TRACEBACK.sub(b"TRACEBACK", DATE.sub(b"DATE", data))


class watched_signals:
    """Record the signals of tasks, with what can be compared of their arguments."""

    def __init__(self, watch: bool) -> None:
        self.watch = watch

    def __enter__(self) -> list[Any]:
        self.seen: list[Any] = []
        self.receivers = {name: self._receiver(name) for name in NAMES if self.watch}
        for name, receiver in self.receivers.items():
            getattr(signals, name).connect(receiver)
        return self.seen

    def __exit__(self, *exc: object) -> None:
        for name, receiver in self.receivers.items():
            getattr(signals, name).disconnect(receiver)

    def _receiver(self, name: str) -> Callable[..., None]:
        def receive(sender: Any, **facts: Any) -> None:
            facts = {key: _plain(value) for key, value in facts.items() if key not in ("signal", "runtime", "einfo")}
            self.seen.append((name, sender.name, facts))

        return receive


NAMES = ("task_prerun", "task_postrun", "task_success", "task_failure", "task_retry", "task_internal_error")


def _plain(value: Any) -> str:
    return re.sub(r"0x[0-9a-f]+|<traceback.*?>|<Context.*", "", repr(value))


def assert_same(message: bytes, **facts: Any) -> Left:
    """Both ways leave the same behind; returns it."""
    fast, full = run(message, fast=True, **facts), run(message, fast=False, **facts)
    assert fast == full
    unwatched = run(message, fast=True, watch=False, **facts)
    assert unwatched == full._replace(signals=[])
    return fast


# ---------------------------------------------------------------------------- success


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("late", [False, True])
def test_every_kind_of_value(kind: str, late: bool) -> None:
    assert_same(envelope("t.value", [kind]), late=late)


def test_arguments_of_all_kinds() -> None:
    left = assert_same(envelope("t.echo", [1, "é", None, [1.5]], {"a": {"b": True}, "ü": 1}))
    assert json.loads(left.commands[0][3])["result"] == [
        [1, "é", None, [1.5]],
        {"a": {"b": True}, "ü": 1},
    ]


def test_marked_arguments_are_decoded_by_kombu() -> None:
    marked = {"__type__": "uuid", "__value__": {"hex": "0" * 31 + "1"}}
    assert_same(envelope("t.echo", [marked]))
    escaped = json.dumps([[marked], {}, None]).replace("__type__", "\\u005f_type__").encode()
    assert_same(envelope("t.echo", body=escaped), plain=False)


@pytest.mark.parametrize(
    "text", ["NaN", "-0", "1e999", '"\\ud800"', "[" * 30 + "]" * 30, "1" * 400, '{"a": 1, "a": 2}']
)
def test_arguments_that_only_json_reads(text: str) -> None:
    body = f"[[{text}], {{}}, {json.dumps(NO_CANVAS)}]".encode()
    assert_same(envelope("t.echo", body=body))


NO_CANVAS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@pytest.mark.parametrize("late", [False, True])
def test_an_ignored_result_leaves_nothing(late: bool) -> None:
    left = assert_same(envelope("t.silent", ignore_result=None), late=late)
    assert left.commands == []
    assert left.outcome == (1 if late else None)
    assert assert_same(envelope("t.value", ["none"], ignore_result=True), late=late).commands == []


@RULES_OF_57
def test_the_message_decides_about_the_result_before_the_task() -> None:
    assert len(assert_same(envelope("t.silent", ignore_result=False)).commands) == 2


def test_group_and_parent_are_stored() -> None:
    left = assert_same(envelope("t.echo", group="g-1", parent_id="p-1", group_index=3))
    assert b'"group_id": "g-1", "parent_id": "p-1", "task_id"' in left.commands[0][3]


@pytest.mark.parametrize(
    "settings",
    [
        {"result_extended": True},
        {"result_expires": None},
        {"result_expires": 60},
        {"result_serializer": "pickle"},
        {"result_serializer": "yaml"},
        {"result_compression": "gzip"},
        {"timezone": "Asia/Kolkata"},
        {"result_backend_transport_options": {"global_keyprefix": "site"}},
        {"result_failure_expires": 7},
        {"task_track_started": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["t.echo", "t.raise"])
def test_settings_of_the_store(settings: dict[str, Any], name: str) -> None:
    message = envelope(name, ["watched", 1], stamped_headers=["s"], stamps={"s": 1})
    fast = run(message, fast=True, **settings)
    full = run(message, fast=False, **settings)
    if settings.get("result_compression") or (name == "t.raise" and settings.get("result_serializer")):
        # Dates and tracebacks differ inside.
        assert [words[:2] for words in fast.commands] == [words[:2] for words in full.commands]
        assert [words[:2] for words in fast.redis] == [words[:2] for words in full.redis]
    else:
        assert fast == full


# ---------------------------------------------------------------------------- states on the way


@pytest.mark.parametrize("name", ["t.echo", "t.raise", "t.retry"])
def test_started_goes_before_the_end(name: str) -> None:
    left = assert_same(envelope(name, [] if name == "t.retry" else ["watched"], group="g"), task_track_started=True)
    assert b'"status": "STARTED", "result": {"pid": ' in left.commands[0][4]
    assert left.commands[0][6]
    assert left.redis == []


def test_started_is_not_told_of_ignored_results() -> None:
    assert assert_same(envelope("t.echo", ignore_result=True), task_track_started=True).commands == []


def test_states_of_the_task_itself_use_the_stores_own_connection() -> None:
    left = assert_same(envelope("t.progress"))
    assert [words[0] for words in left.redis] == [b"GET", b"SETEX", b"PUBLISH"] * 2


def test_states_of_the_task_itself_do_not_overtake_started() -> None:
    left = assert_same(envelope("t.progress"), task_track_started=True)
    states = [words[4].split(b'"')[3] for words in left.commands[:3]]
    assert states == [b"STARTED", b"PROGRESS", b"OTHER"]
    assert left.redis == []


@pytest.mark.parametrize("settings", [{"result_serializer": "pickle"}, {"result_extended": True}], ids=str)
def test_started_in_other_formats(settings: dict[str, Any]) -> None:
    fast = run(envelope("t.echo"), fast=True, plain=False, task_track_started=True, **settings)
    full = run(envelope("t.echo"), fast=False, task_track_started=True, **settings)
    assert [words[:2] for words in fast.redis] == [words[:2] for words in full.redis]
    assert [words[:2] for words in fast.commands] == [words[:2] for words in full.commands]


# ---------------------------------------------------------------------------- other ends


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("kind", ["watched", "key", "soft", "ignore", "memory", "unencodable"])
@pytest.mark.parametrize("name", ["t.raise", "t.expected"])
def test_every_kind_of_failure(name: str, kind: str, late: bool) -> None:
    assert_same(envelope(name, [kind]), late=late)


@RULES_OF_57
@pytest.mark.parametrize("late", [False, True])
def test_a_failure_with_errors_kept_though_results_are_ignored(late: bool) -> None:
    message = envelope("t.raise", ["watched"], ignore_result=True)
    assert assert_same(message, late=late).commands == []
    assert len(assert_same(message, late=late, task_store_errors_even_if_ignored=True).commands) == 1


def test_a_failure_not_to_be_acknowledged() -> None:
    left = assert_same(envelope("t.raise", ["watched"]), late=True, task_acks_on_failure_or_timeout=False)
    assert left.outcome == 1  # the engine takes lateness from the frame, the request from the task
    late = {"task_acks_on_failure_or_timeout": False, "task_acks_late": True}
    assert assert_same(envelope("t.raise", ["watched"]), late=True, **late).outcome == 2


@pytest.mark.parametrize("late", [False, True])
def test_a_retry(late: bool) -> None:
    left = assert_same(envelope("t.retry"), late=late)
    (command,) = left.commands
    assert command[0] == b"EVAL"
    assert command[6], "it is not to overwrite what the next attempt has left"
    assert b'"status": "RETRY"' in command[4]
    assert b'"exc_type": "Watched"' in command[4]
    assert left.outcome == (1 if late else None)


def test_no_more_retries() -> None:
    left = assert_same(envelope("t.retry", retries=3))
    assert b'"status": "FAILURE"' in left.commands[0][4]


@RULES_OF_57
@pytest.mark.parametrize("late", [False, True])
def test_a_link_that_cannot_be_sent_makes_a_failure_of_it(late: bool) -> None:
    left = assert_same(envelope("t.unpublishable"), late=late)
    assert b'"exc_type": "OperationalError"' in left.commands[0][4]


def test_a_call_that_does_not_fit() -> None:
    assert_same(envelope("t.value", [1, 2, 3], {"x": 1}))


# ---------------------------------------------------------------------------- the request


def test_the_request_is_celerys_field_by_field() -> None:
    headers: dict[str, Any] = {
        "traceparent": "00-1-2-01",
        "stamps": {"s": [1]},
        "stamped_headers": ["s"],
        "timelimit": None,
    }
    assert_same(envelope("t.fields", **headers))
    assert_same(envelope("t.fields"))


FIELDS = [
    "id",
    "args",
    "kwargs",
    "retries",
    "hostname",
    "delivery_info",
    "correlation_id",
    "reply_to",
    "called_directly",
    "is_eager",
    "headers",
    "argsrepr",
    "traceparent",
    "task",
    "root_id",
    "children",
    "properties",
    "time_limit",
    "callbacks",
    "nothing_of_the_kind",
]


@pytest.mark.parametrize("name", FIELDS)
def test_single_fields(name: str) -> None:
    assert_same(envelope("t.field", [name], traceparent="00"))


def test_calls_of_the_task_itself() -> None:
    assert_same(envelope("t.called", [1]))
    assert_same(envelope("t.again", [True]))


@pytest.mark.parametrize("name", ["t.echo", "t.raise"])
def test_nothing_is_left_on_the_stacks(name: str) -> None:
    from celery._state import _task_stack

    lab = ChildLab(make_app(), fast=True)
    lab.put(envelope(name, ["watched"]))
    lab.run()
    lab.close()
    assert len(_task_stack) == 0
    assert len(lab.app.tasks[name].request_stack) == 0
    # The runner leaves its empty list there, which Celery reads as nothing.
    assert not any(entry["stack"] for entry in _task_stack._local.__storage__.values())
    assert _task_stack.top is None


# ---------------------------------------------------------------------------- arguments, by chance

_numbers = st.integers() | st.floats() | st.integers(-(2**70), 2**70)
_json = st.recursive(
    st.none() | st.booleans() | _numbers | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(_json)
def test_any_argument_comes_back(value: Any) -> None:
    assert_same(envelope("t.echo", [value]))
