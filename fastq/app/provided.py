"""The tasks that every application has: what Celery's clients send for `map`, `starmap`, `chunks` and `replace`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastq.app.app import FastQ


def provide(app: FastQ) -> None:
    """Give an application these tasks; done where it is run."""
    for name, make in _MAKERS.items():
        if name not in app.tasks:
            app.task(make(app), name=name)  # type: ignore[call-overload]


def _map(app: FastQ) -> Callable[..., Any]:
    def call_each(task: Any, it: Sequence[Any]) -> list[Any]:
        return [_call(app, task, [item]) for item in it]

    return call_each


def _starmap(app: FastQ) -> Callable[..., Any]:
    def call_each_with(task: Any, it: Sequence[Sequence[Any]]) -> list[Any]:
        return [_call(app, task, item) for item in it]

    return call_each_with


def _accumulate(_app: FastQ) -> Callable[..., Any]:
    def accumulate(*args: Any, index: int | None = None) -> Any:
        return args if index is None else args[index]

    return accumulate


_MAKERS = {"celery.map": _map, "celery.starmap": _starmap, "celery.accumulate": _accumulate}


def _call(app: FastQ, sig: Any, args: Sequence[Any]) -> Any:
    """Call a function; a coroutine runs in the child's event loop, or for tests in one of its own, to its end."""
    from fastq.app.running.arguments import caller_of

    task = app.find_task(sig["task"])
    prefix = (task,) if task.options.bind else ()
    call = caller_of(task.function, name=task.name, prefix=prefix)
    run = _to_its_end(call) if task.is_coroutine else call
    return run(*args, *sig["args"], **sig["kwargs"])


def _to_its_end(call: Callable[..., Any]) -> Callable[..., Any]:
    import asyncio

    from fastq.app.eager import to_its_end
    from fastq.app.running import context

    loop = context.loop
    if loop is None:
        return to_its_end(call)
    return lambda *args, **kwargs: asyncio.run_coroutine_threadsafe(call(*args, **kwargs), loop).result()
