"""Tasks of a native application in an event loop: coroutines beside each other, functions one at a time in a thread.

What a plain message says is opened, and a plain result written, by the compiled runner; everything else is the
executor's. Each task runs in a context of its own (`contextvars`), in which it is the current one.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fastq import _core, clock
from fastq.app import signals
from fastq.app.running import context
from fastq.app.running.closing import Closing, Work
from fastq.app.running.context import Request
from fastq.app.running.execute import End, Ended, Executor, log_success, logger
from fastq.app.running.freeing import say_apart
from fastq.app.running.judge import Judge
from fastq.app.running.results import moment
from fastq.app.running.slots import put_aside
from fastq.errors import Retry, SoftTimeLimitExceeded
from fastq.program import FlightDoor, Passenger, Verdict

if TYPE_CHECKING:
    from fastq.app.task import BaseTask
    from fastq.child.events import Eventer


#: Tasks of one child whose callbacks, retries and parts of chords are on their way to broker and result store at once.
ERRANDS = 8

T = TypeVar("T")


class Crew:
    """What the tasks of one child share: the executor, the compiled runner (or None), and the thread of functions."""

    def __init__(self, executor: Executor, runner: _core.LoopRunner | None) -> None:
        self.executor: Executor = executor
        self._runner = runner
        #: Whose turn it is in the thread.
        self.turn: asyncio.Lock = asyncio.Lock()
        #: Here broker and result store are talked to about what follows tasks.
        self.errands: ThreadPoolExecutor = ThreadPoolExecutor(ERRANDS, thread_name_prefix="fastq-follow")
        self.new_thread()

    def new_thread(self) -> None:
        """For functions from now on; one that goes on in the old thread holds up no other."""
        self.thread: ThreadPoolExecutor = ThreadPoolExecutor(1, thread_name_prefix="fastq-task")

    def fly(self, door: FlightDoor) -> Passenger | None:
        """Begin a frame; None if it is over already."""
        if door.kind == _core.VERDICT:
            return self._end(door, Judge(Flying(self.executor, door)).hear(door))
        found: Any = door
        opened = self._runner.open(found) if self._runner is not None else None
        if opened is None:
            return self._open_fully(door)
        plain, request, args, kwargs = opened
        return Plain(self, door, task=self.executor.app.tasks[plain.name], request=request, plain=plain).with_arguments(
            plain.fun, args, kwargs
        )

    def _open_fully(self, door: FlightDoor) -> Passenger | None:
        executor = Flying(self.executor, door)
        opened = executor.open_to_run(door.payload(), late=bool(door.flags & _core.LATE))
        if isinstance(opened, Closing):
            return self._end(door, opened)
        task, request = opened
        kind = Flown if task.options.max_running is None else Limited
        return kind(self, door, task=task, request=request).with_arguments(
            executor.caller(task), tuple(request.args), request.kwargs
        )

    def _end(self, door: FlightDoor, closing: Closing) -> Passenger | None:
        if closing.blocks:
            return Doomed(self, door, closing.work)
        closing.carry_out()
        return None

    async def end(self, door: FlightDoor, work: Work) -> None:
        """End a frame when `work` has been done, in a thread."""
        close = await self.aside(work, is_over=lambda: door.over)
        close()

    async def aside(self, work: Callable[[], T], *, is_over: Callable[[], bool]) -> T:
        """Do what blocks in a thread. Only the end of the frame ends the waiting: the task itself is over."""
        own = contextvars.copy_context()
        working = asyncio.get_running_loop().run_in_executor(self.errands, own.run, work)
        while True:
            try:
                return await asyncio.shield(working)
            except asyncio.CancelledError:
                if is_over() or working.cancelled():
                    raise
                forget_cancelling()

    def succeed(self, plain: Plain, value: Any) -> None:
        """Write a plain result. Raises, and has written nothing, if it cannot be written."""
        assert self._runner is not None
        door: Any = plain.door
        self._runner.write_success(door, plain.plain, plain.request, value)


class Flying(Executor):
    """The executor, of one task among others."""

    def __init__(self, shared: Executor, door: FlightDoor) -> None:
        vars(self).update(vars(shared))
        self.port: FlightDoor = door
        self.eventer: Eventer | None = self.eventer and self.eventer.at(door)

    def say_apart(self, commands: list[bytes], request: Request) -> None:
        """Not in the loop, for it blocks."""
        asyncio.get_running_loop().run_in_executor(None, super().say_apart, commands, request)


class Flown:
    """One task in flight."""

    def __init__(self, crew: Crew, door: FlightDoor, *, task: BaseTask[Any, Any], request: Request) -> None:
        self.crew: Crew = crew
        self.door: FlightDoor = door
        self.task: BaseTask[Any, Any] = task
        self.request: Request = request
        #: What its cancelling means, if that is its soft limit.
        self.reason: SoftTimeLimitExceeded | None = None
        #: Since it began.
        self.executor: Flying
        self.function: Callable[..., Any]
        self.args: tuple[Any, ...]
        self.kwargs: dict[str, Any]
        self._ident = 0
        self._is_concluding = self._is_condemned = False

    def with_arguments(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Flown:
        """What is to be called."""
        self.function, self.args, self.kwargs = function, args, kwargs
        return self

    # Running

    async def run(self) -> None:
        """Call it, and end its frame, unless that has been ended."""
        context.running.set((self.task, self.request, self.door))
        try:
            value = await self._call()
        except Ended:
            raise
        except BaseException as error:
            if not self.over:
                await self._fail(self.reason if self.reason and isinstance(error, asyncio.CancelledError) else error)
        else:
            if not self.over:
                await self.succeed(value)

    async def _call(self) -> Any:
        self.announce()
        if not self.task.is_coroutine:
            return await self._call_in_thread()
        coroutine = self.function(*self.args, **self.kwargs)
        if self.door.limits[0]:
            return await Softly(coroutine, self)
        return await coroutine

    async def _call_in_thread(self) -> Any:
        self.door.hold()
        async with self.crew.turn:
            return await self._call_in_turn()

    async def _call_in_turn(self) -> Any:
        own, crew = contextvars.copy_context(), self.crew
        context.loop = asyncio.get_running_loop()
        self.door.begin()
        try:
            return await context.loop.run_in_executor(crew.thread, own.run, self._call_here)
        finally:
            if self.lingers:
                crew.new_thread()

    def _call_here(self) -> Any:
        self._ident = threading.get_ident()
        try:
            return None if self.over else self.function(*self.args, **self.kwargs)
        finally:
            self._ident = 0

    def announce(self) -> None:
        """Signals and STARTED."""
        self.executor = Flying(self.crew.executor, self.door)
        self.executor.began = moment(clock.now())
        task, request = self.task, self.request
        self.executor.say("task-started", task, request)
        signals.task_prerun.send(task, task_id=request.id, task=task, args=request.args, kwargs=request.kwargs)
        self.executor._announce(task, request)

    # Ending

    async def succeed(self, value: Any) -> None:
        """With a result."""
        runtime_s = self._runtime_s()
        log_success(self.task, self.request, value, runtime_s)
        await self._conclude(End(state="SUCCESS", value=value, runtime_s=runtime_s))

    async def _fail(self, error: BaseException) -> None:
        executor = self.ready_executor()
        if isinstance(error, (Retry, *self.task.options.autoretry_for)):
            # It may be sent again, which blocks.
            end = await self._aside(lambda: executor.end_of(self.task, self.request, error))
        else:
            end = executor.end_of(self.task, self.request, error)
        if not self.over:
            await self._conclude(end)

    async def _conclude(self, end: End) -> None:
        executor, task, request = self.ready_executor(), self.task, self.request
        if request.embed:
            end, stored = await self._aside(lambda: executor.follow_up(task, request, end))
        else:
            end, stored = executor.follow_up(task, request, end)
        if not self.over:
            late = bool(self.door.flags & _core.LATE)
            executor.close(task, request, end, stored, raw=self.door.payload(), late=late)

    async def _aside(self, work: Callable[[], T]) -> T:
        self._is_concluding = True
        return await self.crew.aside(work, is_over=lambda: self.over)

    def ready_executor(self) -> Executor:
        """The executor of this task, since it began."""
        return self.executor

    def _runtime_s(self) -> float:
        return (clock.monotonic_ns() - self.door.started_ns) / 1e9

    # Limits and wishes

    def soften(self) -> bool:
        """Have SoftTimeLimitExceeded raised in it."""
        if self._is_concluding or self.over:
            return False
        logger.warning(
            "Soft time limit (%gs) exceeded for %s[%s]", self.door.limits[0], self.task.name, self.request.id
        )
        if self.task.is_coroutine:
            self.reason = SoftTimeLimitExceeded("the soft time limit is over")
        elif self._ident:
            error = ctypes.py_object(_RaisedInThread)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._ident), error)
        return self.task.is_coroutine

    @property
    def over(self) -> bool:
        """Whether its end has been decided."""
        return self._is_condemned or self.door.over

    def condemn(self, verdict: Verdict) -> Coroutine[Any, Any, None] | None:
        """Its frame ends so, whatever it does: now, or, if something follows it, when that has been sent."""
        if self.over:
            return None
        self._is_condemned = True
        self.door.note_end(_core.FAILED)
        raw, late = self.door.payload(), bool(self.door.flags & _core.LATE)
        judge = Judge(Flying(self.crew.executor, self.door))
        work = partial(judge.carry_out, verdict, self.task, self.request, raw=raw, late=late)
        if self.request.embed:
            # The engine is not to take this process for stuck while the broker keeps us waiting.
            self.door.hold()
            return self.crew.end(self.door, work)
        work()()
        return None

    @property
    def lingers(self) -> bool:
        """Whether its function goes on: nothing can end a thread."""
        return self._ident != 0


class Doomed:
    """A frame whose task is not run: its verdict was given elsewhere, it has expired, or nobody knows it."""

    lingers = False

    def __init__(self, crew: Crew, door: FlightDoor, work: Work) -> None:
        self._crew, self._door, self._work = crew, door, work

    async def run(self) -> None:
        """Send what follows, then end the frame."""
        await self._crew.end(self._door, self._work)

    def soften(self) -> bool:
        """It has no limit."""
        return False

    def condemn(self, verdict: Verdict) -> None:
        """It has been."""


class Limited(Flown):
    """One that begins when it has a slot (`max_running`), and ends its frame if it finds none. A function asks when its
    turn in the thread has come: others could use the slot meanwhile."""

    async def _call(self) -> Any:
        if self.task.is_coroutine:
            return await super()._call() if await self._has_slot() else None
        self.door.hold()
        async with self.crew.turn:
            if not await self._has_slot():
                return None
            self.announce()
            return await self._call_in_turn()

    async def _has_slot(self) -> bool:
        self.executor: Flying = Flying(self.crew.executor, self.door)
        executor = self.executor
        try:
            has_slot = await self._aside(partial(self._take, self.door.payload()))
        finally:
            self._is_concluding = False
        if not has_slot and not self.over:
            put_aside(executor, raw=self.door.payload(), late=bool(self.door.flags & _core.LATE))
        return has_slot and not self.over

    def _take(self, raw: bytes) -> bool:
        executor, task, request = self.executor, self.task, self.request
        has_slot = executor.slots.take(executor, task, request, raw)
        if has_slot and self.over:  # whoever ended it meanwhile has given back what it did not have yet
            say_apart(executor.app, [executor.slots.free(executor, task, request)], task_id=request.id)
        return has_slot


class Plain(Flown):
    """One whose message and result are the compiled runner's, as long as nothing goes wrong."""

    def __init__(
        self, crew: Crew, door: FlightDoor, *, task: BaseTask[Any, Any], request: Request, plain: _core.PlainTask
    ) -> None:
        super().__init__(crew, door, task=task, request=request)
        self.plain = plain

    def announce(self) -> None:
        """Nobody listens."""

    async def succeed(self, value: Any) -> None:
        """With a result; one that cannot be written is a failure."""
        try:
            self.crew.succeed(self, value)
        except Exception:
            await self._conclude(End(state="SUCCESS", value=value))

    def ready_executor(self) -> Executor:
        """Made when something has gone wrong."""
        executor = Flying(self.crew.executor, self.door)
        executor.began = moment(clock.now() - self._runtime_s())
        return executor


def forget_cancelling() -> None:
    """The current task goes on: it was not cancelled as far as it can be asked (Python 3.11 and later)."""
    current: Any = asyncio.current_task()
    if hasattr(current, "uncancel"):
        current.uncancel()


class _RaisedInThread(SoftTimeLimitExceeded):
    """Made by the interpreter, which gives it no arguments; in results it has the name of what it is."""

    def __init__(self) -> None:
        super().__init__("the soft time limit is over")


_RaisedInThread.__name__, _RaisedInThread.__module__ = SoftTimeLimitExceeded.__name__, SoftTimeLimitExceeded.__module__


class Softly:
    """Awaits a coroutine. The cancelling that the soft limit causes arrives in it as SoftTimeLimitExceeded."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], flown: Flown) -> None:
        self._coroutine, self._flown = coroutine, flown

    def __await__(self) -> Generator[Any, Any, Any]:
        return self

    def __iter__(self) -> Softly:
        return self

    def __next__(self) -> Any:
        return self._coroutine.send(None)

    def send(self, value: Any) -> Any:
        """To the coroutine."""
        return self._coroutine.send(value)

    def throw(self, kind: Any, value: Any = None, trace: Any = None) -> Any:
        """Into the coroutine, as what it is meant to be."""
        error = value if value is not None else kind
        reason = self._flown.reason
        if reason is None or not isinstance(error, asyncio.CancelledError):
            return self._coroutine.throw(error)
        self._flown.reason = None
        forget_cancelling()
        return self._coroutine.throw(reason)

    def close(self) -> None:
        """The coroutine is not awaited any more."""
        self._coroutine.close()
