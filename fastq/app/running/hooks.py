"""Call what the options of a task name (on_success, on_failure, on_retry), be it a function or a coroutine function.

Where a loop runs, a coroutine is carried out in it beside the tasks, and a child that leaves waits for it for seconds.
Else it has a loop of its own, and the task ends after it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from fastq.app.running.context import Request

logger: logging.Logger = logging.getLogger("fastq.task")

#: Seconds that a child which leaves waits for hooks that are under way.
GRACE_S = 5.0

#: What a hook may raise. The end of the process is not its business.
_RAISED = (Exception, SystemExit, KeyboardInterrupt)

#: The loop does not hold them itself.
_under_way: set[asyncio.Task[None]] = set()


def call_hook(hook: Callable[..., Any] | None, task: Any, request: Request, value: Any) -> None:
    """Call it with (task, request, value); an error in it is logged."""
    if hook is None:
        return
    try:
        found = hook(task, request, value)
    except _RAISED:
        _complain(hook, task, request)
    else:
        if isinstance(found, Coroutine):
            _carry_out(_see_through(found, hook, task, request))


def finish_hooks() -> None:
    """Wait for those that are under way; the loop they are in does not run any more."""
    if _under_way:
        import asyncio

        loop = next(iter(_under_way)).get_loop()
        loop.run_until_complete(asyncio.wait(_under_way, timeout=GRACE_S))


def _carry_out(coroutine: Coroutine[Any, Any, None]) -> None:
    import asyncio

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(coroutine)
        return
    task = loop.create_task(coroutine)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)


async def _see_through(coroutine: Coroutine[Any, Any, Any], hook: Any, task: Any, request: Request) -> None:
    try:
        await coroutine
    except _RAISED:
        _complain(hook, task, request)


def _complain(hook: Any, task: Any, request: Request) -> None:
    logger.exception("Task %s[%s]: its %r failed", task.name, request.id, getattr(hook, "__name__", hook))
