"""Workflows: signatures of tasks, and chains, groups and chords of them. The names and the meaning are Celery's.

    chain(charge.s(order), ship.s(), notify.s("shipped")).delay()
    (resize.s(path, 100) | upload.s()).apply_async(link_error=report.s())
    group(resize.s(path, width) for width in (100, 200, 400)).delay().get()
    chord([count.s(shard) for shard in shards], total.s()).delay().get()

A signature is a task with arguments, not sent yet. None of the operators changes what it is applied to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from fastq.app import unfold
from fastq.app.unfold import Sig
from fastq.errors import OptionError

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from fastq.app.app import FastQ
    from fastq.app.task import BaseTask
    from fastq.producer import Handle
    from fastq.producer.group import GroupHandle
    from fastq.producer.options import SendOptions

    class SignatureOptions(SendOptions, total=False):
        """Options of a send, and what follows it."""

        link: Signature[Any] | Sequence[Signature[Any]]
        link_error: Signature[Any] | Sequence[Signature[Any]]


R = TypeVar("R")
R2 = TypeVar("R2")


class Signature(Generic[R]):
    """A task with arguments and options, to be sent later, alone or as a part of a workflow.

    `fields` is the signature as Celery writes it: a message can carry it.
    """

    __slots__ = ("app", "fields")

    def __init__(self, app: FastQ | None, fields: Sig) -> None:
        self.app: FastQ | None = app
        self.fields: Sig = fields

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {_shown(self.fields)}>"

    def __json__(self) -> Sig:
        """As an argument of a task it travels as it is written."""
        return self.fields

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signature) and self.fields == other.fields

    def __hash__(self) -> int:
        # Equal ones have the same task; the rest of it may be of any type.
        return hash(self.fields["task"])

    @property
    def task(self) -> str:
        """The name of its task; "celery.chain" and so on of workflows."""
        return str(self.fields["task"])

    @property
    def args(self) -> Sequence[Any]:
        """Its positional arguments."""
        return tuple(self.fields["args"])

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """Its keyword arguments."""
        found: Mapping[str, Any] = self.fields["kwargs"]
        return found

    @property
    def options(self) -> Mapping[str, Any]:
        """What was `set`, and what it is linked to."""
        found: Mapping[str, Any] = self.fields["options"]
        return found

    # ------------------------------------------------------------------------ other signatures

    def _changed(self, **fields: Any) -> Self:
        return type(self)._of(self.app, {**self.fields, **fields})

    @classmethod
    def _of(cls, app: FastQ | None, fields: Sig) -> Self:
        found = object.__new__(cls)
        found.app, found.fields = app, fields
        return found

    def set(self, *, immutable: bool | None = None, **options: Unpack[SignatureOptions]) -> Self:
        """The same with options of a send: queue, countdown, priority, task_id and so on. Raises OptionError."""
        fixed = self.fields["immutable"] if immutable is None else immutable
        _check(options)
        links = {name: _fields(options[name]) for name in ("link", "link_error") if name in options}
        return self._changed(options={**self.fields["options"], **options, **links}, immutable=fixed)

    def clone(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Unpack[SignatureOptions]
    ) -> Self:
        """The same with arguments before its own, keyword arguments and options."""
        return type(self)._of(self.app, unfold.partial(self.fields, args, kwargs)).set(**options)

    def link(self, callback: Signature[Any]) -> Self:
        """The same, followed by `callback` with its result. Of several links the order is not defined."""
        return self._linked("link", callback)

    def link_error(self, errback: Signature[Any]) -> Self:
        """The same; when it fails `errback` is called: with (request, error, traceback) where a worker has such a
        function, else it is sent with the id of the task that failed."""
        return self._linked("link_error", errback)

    def on_error(self, errback: Signature[Any]) -> Self:
        """The same as `link_error`."""
        return self.link_error(errback)

    def _linked(self, name: str, other: Signature[Any]) -> Self:
        options = self.fields["options"]
        return self._changed(options={**options, name: [*(options.get(name) or ()), other.fields]})

    def __or__(self, other: Signature[R2]) -> Signature[R2]:
        """One after the other; after a group: a chord."""
        if not isinstance(other, Signature):
            return NotImplemented
        return _joined(self, other)

    # ------------------------------------------------------------------------ sending

    def delay(self, *args: Any, **kwargs: Any) -> Handle[R]:
        """Send it, with these arguments before its own; blocks until the broker has it. Raises as `Producer.send`."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Unpack[SignatureOptions]
    ) -> Handle[R]:
        """Send it with options; the handle is that of its last task, and `parent` that of what comes before.

        Raises as `Producer.send`, ResultsUnavailable if a chord cannot be set up, and OptionError.
        """
        from fastq.app.dispatch import dispatch

        _check(options)
        found: Handle[R] = dispatch(self._home(), self.fields, args, kwargs, options)
        return found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it, a task, here and now with these arguments before its own, without a message. Raises UnknownTask."""
        full = unfold.partial(self.fields, args, kwargs)
        return self._home().find_task(full["task"])(*full["args"], **full["kwargs"])  # type: ignore[operator]

    def _home(self) -> FastQ:
        if self.app is None:
            raise OptionError(f"{self!r} has no task of an application in it, so it cannot be sent")
        return self.app


class chain(Signature[R]):
    """One task after the other; each gets the result of the one before it as its first argument."""

    __slots__ = ()

    # Its result is that of its last task, as far as type checkers can count.
    @overload
    def __init__(self, only: Signature[R], /) -> None: ...
    @overload
    def __init__(self, a: Signature[Any], last: Signature[R], /) -> None: ...
    @overload
    def __init__(self, a: Signature[Any], b: Signature[Any], last: Signature[R], /) -> None: ...
    @overload
    def __init__(self, a: Signature[Any], b: Signature[Any], c: Signature[Any], last: Signature[R], /) -> None: ...
    @overload
    def __init__(
        self, a: Signature[Any], b: Signature[Any], c: Signature[Any], d: Signature[Any], last: Signature[R], /
    ) -> None: ...
    @overload
    def __init__(self: chain[Any], *tasks: Signature[Any] | Iterable[Signature[Any]]) -> None: ...
    def __init__(self, *tasks: Signature[Any] | Iterable[Signature[Any]]) -> None:
        given = _given(tasks)
        super().__init__(_app_of(given), unfold.chain_of(one.fields for one in given))

    def __call__(self, *args: Any, **kwargs: Any) -> Handle[R]:
        """Send it, as Celery's does."""
        return self.delay(*args, **kwargs)


class group(Signature[list[R]]):
    """Tasks that run at the same time. The result is the list of theirs."""

    __slots__ = ()

    def __init__(self, *tasks: Signature[R] | Iterable[Signature[R]]) -> None:
        given = _given(tasks)
        super().__init__(_app_of(given), unfold.group_of(one.fields for one in given))

    def __len__(self) -> int:
        return len(self.fields["kwargs"]["tasks"])

    def delay(self, *args: Any, **kwargs: Any) -> GroupHandle[R]:  # type: ignore[override]
        """Send all, with these arguments before their own; blocks until the broker has them."""
        return self.apply_async(args, kwargs)

    def apply_async(  # type: ignore[override]
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Unpack[SignatureOptions]
    ) -> GroupHandle[R]:
        """Send all with options; they go to the broker together. An empty group has ended: there is nothing to send."""
        if self.app is None and not len(self):
            from fastq.producer import GroupHandle
            from fastq.producer.ids import uuids

            return GroupHandle(options.get("task_id") or uuids(1)[0], [])
        found: Any = super().apply_async(args, kwargs, **options)
        return found  # type: ignore[no-any-return]

    def __call__(self, *args: Any, **kwargs: Any) -> GroupHandle[R]:
        """Send it, as Celery's does."""
        return self.delay(*args, **kwargs)

    def skew(self, start: float = 1.0, *, step: float = 1.0) -> group[R]:
        """The same with a countdown for each: `start`, and `step` seconds more for each that follows."""
        tasks = unfold.tasks_of(self.fields)
        delayed = [
            {**task, "options": {**task["options"], "countdown": start + step * number}}
            for number, task in enumerate(tasks)
        ]
        return self._changed(kwargs={"tasks": delayed})


class chord(Signature[R]):
    """A group (the header), and a task (the body) that gets the list of its results when all have ended.

    `chord(header)(body)` sends it, as Celery's does. It needs a result store.
    """

    __slots__ = ("_header",)

    def __init__(self, header: group[Any] | Iterable[Signature[Any]], body: Signature[R] | None = None) -> None:
        tasks = header if isinstance(header, group) else group(header)
        self._header = tasks
        fields = unfold.chord_of(tasks.fields, body.fields if body is not None else {})
        super().__init__(tasks.app or (body.app if body is not None else None), fields)

    def __call__(self, body: Signature[Any] | None = None, **options: Any) -> Handle[R]:
        """Send it, with the body if it has none yet."""
        made: Any = self if body is None else chord(self._header, body)
        return made.apply_async(**options)  # type: ignore[no-any-return]


_KINDS: dict[str, type[Signature[Any]]] = {"chain": chain, "group": group, "chord": chord}


def of_task(
    task: BaseTask[Any, R],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    immutable: bool = False,
    unique: bool = True,
) -> Signature[R]:
    """What `task.s` and `task.si` return. Raises OptionError for a unique task, unless `unique` is false."""
    if unique and task.is_unique:
        raise OptionError(
            f"task {task.name} is unique, so it may not be sent when its turn comes, and what follows would wait: "
            "let a task of the workflow send it, or take task.signature(args, kwargs, unique=False)"
        )
    return Signature(task.app, unfold.signature(task.name, args=args, kwargs=kwargs, immutable=immutable))


def named(
    app: FastQ, task: str | Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, immutable: bool
) -> Signature[Any]:
    """What `app.signature` returns. Raises OptionError for a mapping that is none."""
    if isinstance(task, str):
        known = app.tasks.get(task)
        if known is not None:
            return of_task(known, args, kwargs, immutable=immutable)
        return Signature(app, unfold.signature(task, args=args, kwargs=kwargs, immutable=immutable))
    if not isinstance(task.get("task"), str):
        raise OptionError(f"a signature as it is written has task, args, kwargs and options, unlike {task!r:.200}")
    whole = {**unfold.signature(task["task"]), **task}
    return _KINDS.get(unfold.kind_of(whole), Signature)._of(app, unfold.partial(whole, args, kwargs))


def mapped(task: BaseTask[Any, R], items: Iterable[Any], *, name: str) -> Signature[list[R]]:
    """One message that has the task called for each item: `celery.map`, or `celery.starmap` for tuples of arguments."""
    kwargs = {"task": of_task(task, (), {}).fields, "it": list(items)}
    return Signature(task.app, unfold.signature(name, kwargs=kwargs, immutable=True))


def chunked(task: BaseTask[Any, R], items: Iterable[Sequence[Any]], size: int) -> group[list[R]]:
    """The calls of a starmap, `size` in each message."""
    rest, found = iter(items), []
    while some := list(islice(rest, size)):
        found.append(mapped(task, some, name="celery.starmap"))
    return group(found)


def _check(options: Mapping[str, Any]) -> None:
    """Raises OptionError for an option that no send has."""
    for name in options:
        if name not in unfold.OPTIONS:
            known = ", ".join(sorted(unfold.OPTIONS))
            raise OptionError(f"there is no option {name!r} of a signature; the options are {known}")


def embed_links(options: dict[str, Any]) -> dict[str, Any]:
    """Take `link` and `link_error` out of the options of a send: they are a part of the body."""
    links, errors = (_fields(options.pop(name, None)) for name in ("link", "link_error"))
    return {"callbacks": links, "errbacks": errors, "chain": None, "chord": None, **(options.get("embed") or {})}


def _fields(given: Any) -> list[Sig] | None:
    if given is None:
        return None
    listed: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given]
    return [one.fields if isinstance(one, Signature) else one for one in listed]


def _given(tasks: Sequence[Any]) -> list[Signature[Any]]:
    found = list(tasks[0]) if len(tasks) == 1 and not isinstance(tasks[0], Signature) else list(tasks)
    for one in found:
        if not isinstance(one, Signature):
            raise OptionError(f"a workflow is made of signatures, such as task.s(1, 2), not of {one!r:.200}")
    return found


def _app_of(tasks: Iterable[Signature[Any]]) -> FastQ | None:
    return next((one.app for one in tasks if one.app is not None), None)


def _joined(one: Signature[Any], other: Signature[Any]) -> Signature[Any]:
    app = one.app or other.app
    if isinstance(one, group):
        return chord._of(app, unfold.chord_of(one.fields, other.fields))
    steps = [step for part in (one, other) for step in _steps(part)]
    return chain._of(app, unfold.chain_of(steps))


def _steps(part: Signature[Any]) -> list[Sig]:
    # A chain that is linked to something, or has options, stays one step: they are about the whole of it.
    if isinstance(part, chain) and not part.options:
        return unfold.tasks_of(part.fields)
    return [part.fields]


def _shown(fields: Mapping[str, Any]) -> str:
    kind = unfold.kind_of(fields)
    if kind == "chain":
        return " | ".join(_shown(task) for task in unfold.tasks_of(fields))
    if kind in ("group", "chord"):
        tasks = unfold.tasks_of(fields)
        some = ", ".join(_shown(task) for task in tasks[:3]) + (f", ... {len(tasks)}" if len(tasks) > 3 else "")
        return f"[{some}]" + (f" | {_shown(fields['kwargs']['body'])}" if kind == "chord" else "")
    arguments = [repr(value) for value in fields["args"]] + [f"{k}={v!r}" for k, v in fields["kwargs"].items()]
    return f"{fields['task']}({', '.join(arguments):.200})"
