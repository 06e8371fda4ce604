"""The life of a child with an event loop: many tasks in flight, woken by an eventfd, nothing polled.

Whatever has been dealt is taken at once, a task is made for each, and the engine is woken once for all that have ended
in one turn of the loop. Time limits are timers of the loop: they cancel the one task, and its frame is ended at once. A
task that does not mind is left behind, and so is this process, when the others are through.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import signal
from collections.abc import Coroutine
from typing import Any

import msgspec

from fastq import clock
from fastq._core import TASK, ChildPort, Flight, Flights
from fastq.child.goodbye import EXIT_RECYCLE
from fastq.child.main import LoopOptions
from fastq.program import LoopProgram, Passenger, Verdict

logger: logging.Logger = logging.getLogger(__name__)

SOFT, HARD = 0, 1

#: Seconds that a cancelled task may take to end before it is left behind.
GRACE_S = 1.0


def run_loop(program: LoopProgram, port: ChildPort, options: LoopOptions, *, max_tasks: int | None) -> int:
    """Run tasks until there is a reason to leave, and none is in flight; the exit code."""
    loop = new_loop()
    asyncio.set_event_loop(loop)
    try:
        deck = Deck(program, port, options, loop=loop, max_tasks=max_tasks)
        port.ready(os.getpid())
        deck.turn()
        return loop.run_until_complete(deck.left)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's if it is installed, else asyncio's."""
    try:
        import uvloop  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class Aboard(msgspec.Struct, eq=False):
    """One task in flight."""

    passenger: Passenger
    task: asyncio.Task[None]
    timers: dict[int, asyncio.TimerHandle] = {}


class Deck:
    """What is in flight in this process."""

    def __init__(
        self,
        program: LoopProgram,
        port: ChildPort,
        options: LoopOptions,
        *,
        loop: asyncio.AbstractEventLoop,
        max_tasks: int | None,
    ) -> None:
        self._program, self._port, self._loop = program, port, loop
        self._flights = Flights(port, options.limit)
        self._waker, self._max_tasks = options.waker, max_tasks
        self._aboard: dict[Flight, Aboard] = {}
        #: Frames that were condemned, and end when what follows them has been sent.
        self._endings: dict[Flight, asyncio.Task[None]] = {}
        self._due = self._ended = False
        self._context = contextvars.copy_context()
        #: With the exit code, when this child may end.
        self.left: asyncio.Future[int] = loop.create_future()
        self._code: int | None = None
        loop.add_reader(options.waker, self._woken)

    # Turns

    def _woken(self) -> None:
        try:
            os.eventfd_read(self._waker)
        except BlockingIOError:
            return
        self.turn()

    def _turn_soon(self) -> None:
        if not self._due:
            self._due = True
            # Not in the context of the task that has just ended: those that are begun would inherit it.
            self._loop.call_soon(self.turn, context=self._context)

    def turn(self) -> None:
        """Say what has ended, hear what is to end, start what has been dealt; then the loop may sleep."""
        self._due = False
        try:
            self._turn()
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        # Not a task's, but ours: this process cannot go on.
        if not self.left.done():
            self.left.set_exception(error)

    def _turn(self) -> None:
        flights = self._flights
        while True:
            for flight, softly in flights.wishes():
                self._grant(flight, softly=softly)
            for flight in flights.take(self._may_start()):
                self._begin(flight)
            if self._ended:
                self._ended = False
                flights.tell()
            if self._must_leave() or flights.rest():
                return

    def _may_start(self) -> int:
        if self._code is not None or self._port.stopping:
            return 0
        if self._max_tasks is None:
            return self._flights.limit
        return max(0, self._max_tasks - self._flights.executed - self._flights.count)

    def _must_leave(self) -> bool:
        """Whether nothing more is started; the end comes with the last end of a task."""
        if self._code is None and self._port.stopping:
            self._leave(0)
        elif self._code is None and self._may_start() == 0:
            self._leave(EXIT_RECYCLE)
        if self._code is not None and not self._flights.count and not self.left.done():
            self.left.set_result(self._code)
        return self._code is not None

    def _leave(self, code: int) -> None:
        # The engine deals what was not started to others, and has somebody in this place.
        self._code = code
        self._port.retire()

    # One task

    def _begin(self, flight: Flight) -> None:
        passenger = self._program.fly(flight)
        if passenger is None:
            self._ended = True
            return
        aboard = Aboard(passenger, self._loop.create_task(self._carry(flight, passenger)))
        self._aboard[flight] = aboard
        soft_s, hard_s = flight.limits
        if (soft_s or hard_s) and flight.kind == TASK:
            for which, limit_s in ((SOFT, soft_s), (HARD, hard_s)):
                if limit_s:
                    self._limit(flight, aboard, which, limit_s)

    async def _carry(self, flight: Flight, passenger: Passenger) -> None:
        try:
            await passenger.run()
        except asyncio.CancelledError:
            if not flight.over:
                # Nobody's wish: the task, or a library that it uses, has cancelled itself.
                self._condemn(flight, passenger, self._verdict(flight, "lost", "The task was cancelled from within."))
        except SystemExit as leaving:
            self._asked_to_leave(leaving)
        except BaseException as error:
            self._fail(error)
        finally:
            aboard = self._aboard.pop(flight)
            for timer in aboard.timers.values():
                timer.cancel()
            self._ended = True
            self._turn_soon()

    def _asked_to_leave(self, leaving: SystemExit) -> None:
        """A task has called sys.exit(), and its frame is over: when the others are. Or this process is ended: now."""
        if self._flights.count and type(leaving) is SystemExit:
            self.give_up()
        else:
            self._fail(leaving)

    # Limits and wishes

    def _limit(self, flight: Flight, aboard: Aboard, which: int, limit_s: float) -> None:
        """Wait until a limit is over, the first (soft) or the second (hard): it counts since the task has begun."""
        left_s = limit_s - (clock.monotonic_ns() - flight.started_ns) / 1e9
        if flight.held or left_s > 0:
            wait_s = limit_s if flight.held else left_s
            aboard.timers[which] = self._loop.call_later(wait_s, self._limit, flight, aboard, which, limit_s)
        elif which == SOFT:
            self._soften(aboard)
        else:
            self._end_late(flight, aboard, limit_s)

    def _grant(self, flight: Flight, *, softly: bool) -> None:
        aboard = self._aboard.get(flight)
        if aboard is None:
            return
        if softly:
            self._soften(aboard)
        else:
            verdict = self._verdict(flight, "terminated", "", signal_number=int(signal.SIGTERM))
            self._end(flight, aboard, verdict)

    def _soften(self, aboard: Aboard) -> None:
        if not aboard.task.done() and aboard.passenger.soften():
            aboard.task.cancel()

    def _end_late(self, flight: Flight, aboard: Aboard, limit_s: float) -> None:
        reason = f"Hard time limit ({limit_s:g}s) exceeded."
        self._end(flight, aboard, self._verdict(flight, "timeout", reason, limit_s=limit_s))

    def _end(self, flight: Flight, aboard: Aboard, verdict: Verdict) -> None:
        """End the frame now, whatever the task makes of being cancelled."""
        if flight.over:
            return
        self._condemn(flight, aboard.passenger, verdict)
        aboard.task.cancel()
        self._ended = True
        self._turn_soon()
        self._loop.call_later(GRACE_S, self._leave_behind, flight, aboard)

    def _condemn(self, flight: Flight, passenger: Passenger, verdict: Verdict) -> None:
        ending = passenger.condemn(verdict)
        if ending is not None:
            self._endings[flight] = self._loop.create_task(self._see_end(flight, ending))

    async def _see_end(self, flight: Flight, ending: Coroutine[Any, Any, None]) -> None:
        try:
            await ending
        except BaseException as error:
            self._fail(error)
        finally:
            del self._endings[flight]
            self._ended = True
            self._turn_soon()

    def _leave_behind(self, flight: Flight, aboard: Aboard) -> None:
        if not aboard.task.done() or aboard.passenger.lingers:
            logger.error(
                "A cancelled task (frame %d) goes on; this process takes no more, and ends with the others.",
                flight.number,
            )
            self.give_up()

    def give_up(self) -> None:
        """Something in this process cannot be ended: be replaced."""
        if self._code is None:
            self._leave(0)
        self._turn_soon()

    @staticmethod
    def _verdict(flight: Flight, kind: Any, reason: str, **facts: Any) -> Verdict:
        return Verdict(kind=kind, reason=reason, started=True, pid=os.getpid(), task=flight.task, **facts)
