"""Run one frame of a native application, and say how it has ended: result, retry, failure, and the message's fate."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from fastq import clock, frames
from fastq.app import signals
from fastq.app.running import context
from fastq.app.running.arguments import Caller, caller_of
from fastq.app.running.closing import Closing, comes_late
from fastq.app.running.context import Request
from fastq.app.running.follow import Follow
from fastq.app.running.freeing import commands_of, say_apart
from fastq.app.running.hooks import call_hook
from fastq.app.running.message import Message, open_message, queue_of
from fastq.app.running.results import REVOKED, Results, error_fields, moment
from fastq.app.running.slots import Slots, admit
from fastq.child.events import Eventer, shown
from fastq.child.letters import Letters
from fastq.errors import (
    ArgumentError,
    Ignore,
    MaxRetriesExceeded,
    PeerError,
    Reject,
    ResultsUnavailable,
    ResultTooLarge,
    Retry,
    UnknownTask,
)
from fastq.program import Verdict
from fastq.results.redis import ENDS
from fastq.wire.brief import safe_repr
from fastq.wire.redelivery import mark_redelivered

if TYPE_CHECKING:
    from fastq.app.app import FastQ
    from fastq.app.task import BaseTask
    from fastq.producer import Producer
    from fastq.program import Door

    #: A task and what it is run with.
    Opened = tuple[BaseTask[Any, Any], Request]

logger: logging.Logger = logging.getLogger("fastq.task")

_OUTCOMES = {"ack": frames.ACK, "reject": frames.REJECT, "requeue": frames.REQUEUE}


class Ended(SystemExit):
    """Raised by our own handler of SIGTERM: the engine is ending this process, and takes care of the task."""


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt has ended."""

    state: str
    value: Any = None
    #: How long the function took.
    runtime_s: float = 0.0
    error: BaseException | None = None
    traceback: str = ""
    #: What is stored of an error, if it is not its own type.
    fields: dict[str, Any] | None = None
    #: ack, reject or requeue: what becomes of a message that is acknowledged late.
    decision: str = "ack"

    @property
    def counted(self) -> int:
        """What `ChildPort.note_end` takes."""
        return _COUNTED.get(self.state, frames.FAILED)


_COUNTED = {
    "SUCCESS": frames.SUCCEEDED,
    "RETRY": frames.RETRIED,
    "IGNORED": frames.IGNORED,
    "REJECTED": frames.REJECTED,
}


class Executor:
    """Carries out the frames of one child that runs functions, one at a time."""

    def __init__(
        self,
        app: FastQ,
        *,
        port: Door,
        node: str,
        letters: Letters,
        results: Results,
        eventer: Eventer | None = None,
    ) -> None:
        self.app: FastQ = app
        self.port: Door = port
        self.node: str = node
        self.letters: Letters = letters
        self.results: Results = results
        self.eventer = eventer
        self.follow: Follow = Follow(app, results)
        self.slots: Slots = Slots(app, worker=port.worker)
        self._callers: dict[str, Caller] = {}
        #: When the current attempt began, as results are dated: a later attempt's end must not be overwritten.
        self.began: str = ""
        #: True while a signal may interrupt what runs.
        self.interruptible: bool = False

    @property
    def producer(self) -> Producer:
        """What sends the next attempts."""
        return self.app.producer

    def caller(self, task: BaseTask[Any, Any]) -> Caller:
        """What calls this task's function with checked arguments; made once."""
        found = self._callers.get(task.name)
        if found is None:
            prefix = (task,) if task.options.bind else ()
            found = self._callers[task.name] = caller_of(task.function, name=task.name, prefix=prefix)
        return found

    # ------------------------------------------------------------------------ the full way

    def run(self, port: Door) -> None:
        """Run the task of the current frame and end the frame."""
        raw, late = port.payload(), bool(port.flags & frames.LATE)
        opened = self.open_to_run(raw, late=late)
        if isinstance(opened, Closing):
            opened.carry_out()
            return
        task, request = opened
        if task.options.max_running is None or admit(self, task, request, raw=raw, late=late):
            self.conclude(task, request, self.attempt(task, request), raw=raw, late=late)

    def open_to_run(self, raw: bytes, *, late: bool) -> Opened | Closing:
        """The task of a message that is about to run, or, if it must not, how its frame ends."""
        self.port.note_end(frames.DISCARDED)
        opened = self.open(raw, late=late)
        if isinstance(opened, Closing) or not comes_late(opened[1].message):
            return opened
        work = partial(self.revoked, Verdict(kind="expired"), *opened, raw=raw, late=late)
        return Closing(bool(opened[1].embed), work)

    def open(self, raw: bytes, *, late: bool) -> Opened | Closing:
        """The task of a message and its request, or, if there is none, how its frame ends."""
        try:
            message = open_message(raw)
        except PeerError as error:
            close = partial(self.refuse, raw, late=late, error=error)
            return Closing(False, lambda: close)
        task = self.app.tasks.get(message.header.task or "")
        if task is None:
            return Closing(bool(message.embed), partial(self.unknown, message, late=late))
        return task, Request(message, hostname=self.node)

    def attempt(self, task: BaseTask[Any, Any], request: Request) -> End:
        """Call the function. Raises Ended if this process is being ended."""
        context.tasks.push(task)
        context.requests.push(request)
        began, self.began = clock.monotonic(), moment(clock.now())
        self.say("task-started", task, request)
        signals.task_prerun.send(task, task_id=request.id, task=task, args=request.args, kwargs=request.kwargs)
        self._announce(task, request)
        try:
            self.interruptible = True
            try:
                value = self.caller(task)(*request.args, **request.kwargs)
            finally:
                self.interruptible = False
            end = End(state="SUCCESS", value=value, runtime_s=clock.monotonic() - began)
            log_success(task, request, value, end.runtime_s)
        except Ended:
            raise
        except BaseException as error:
            end = self.end_of(task, request, error)
        finally:
            context.requests.pop()
            context.tasks.pop()
        return end

    def _announce(self, task: BaseTask[Any, Any], request: Request) -> None:
        if choose(task.options.track_started, self.app.conf.task_track_started) and not self.ignores(task, request):
            self.port.store(
                *self.results.commands("STARTED", own_process(self.node), request=request, began=self.began)
            )

    def ignores(self, task: BaseTask[Any, Any], request: Request) -> bool:
        """Whether no result of this execution is stored: the message decides, else the task, else the application."""
        asked = request.ignore_result
        return self.app.ignores_results(task) if asked is None else asked

    # ------------------------------------------------------------------------ how it has ended

    def end_of(self, task: BaseTask[Any, Any], request: Request, error: BaseException) -> End:
        """What an error means. A retry has been sent when this returns."""
        if isinstance(error, Ignore):
            return End(state="IGNORED", error=error)
        if isinstance(error, Reject):
            return End(state="REJECTED", error=error, decision="requeue" if error.requeue else "reject")
        asked = error if isinstance(error, Retry) else self._asks_again(task, request, error)
        if asked is not None:
            try:
                self.send_again(task, request, asked)
                return End(state="RETRY", error=asked, traceback=_traceback(error))
            except Exception as failed:
                logger.exception("Task %s[%s]: the retry cannot be sent", task.name, request.id)
                error = failed
        return End(state="FAILURE", error=error, traceback=_traceback(error), decision=self._after_failure(task))

    @staticmethod
    def _asks_again(task: BaseTask[Any, Any], request: Request, error: BaseException) -> Retry | None:
        """The retry that the task's options ask for."""
        own = task.options
        if isinstance(error, (ArgumentError, ResultTooLarge)) or not isinstance(error, own.autoretry_for):
            return None
        if isinstance(error, own.dont_autoretry_for):
            return None
        if own.max_retries is not None and request.retries >= own.max_retries:
            return None
        return task_retry(task, request, error)

    def _after_failure(self, task: BaseTask[Any, Any]) -> str:
        acks = choose(task.options.acks_on_failure_or_timeout, self.app.conf.task_acks_on_failure_or_timeout)
        return "ack" if acks else "reject"

    def send_again(self, task: BaseTask[Any, Any], request: Request, asked: Retry) -> None:
        """Send the next attempt: the same id, the same options, one retry more. Raises as `Producer.send`."""
        message = request.message
        header, headers = message.header, message.headers
        limits = headers.get("timelimit") or [None, None]
        options: dict[str, Any] = {
            "task_id": request.id,
            "retries": header.retries + 1,
            "countdown": asked.countdown,
            "queue": queue_of(self.port, header),
            "priority": message.properties.get("priority"),
            "expires": headers.get("expires"),
            "root_id": request.root_id,
            "parent_id": request.parent_id,
            "group_id": request.group,
            "group_index": headers.get("group_index"),
            "ignore_result": request.ignore_result,
            "shadow": header.shadow,
            "time_limit": limits[0],
            "soft_time_limit": limits[1],
            "embed": message.embed if any(message.embed.values()) else None,
            "headers": {name: value for name, value in headers.items() if name not in _OWN_HEADERS},
        }
        self.producer.send(task.name, message.args, message.kwargs, **options)

    # ------------------------------------------------------------------------ afterwards

    def conclude(self, task: BaseTask[Any, Any], request: Request, end: End, *, raw: bytes, late: bool) -> None:
        """Send what follows, store the result, tell the application, end the frame.

        Leaves the process if the task has asked for it.
        """
        end, stored = self.follow_up(task, request, end)
        self.close(task, request, end, stored, raw=raw, late=late)

    def follow_up(self, task: BaseTask[Any, Any], request: Request, end: End) -> tuple[End, tuple[int, bytes]]:
        """The first half, which blocks: send what follows. Returns the end, and what is still to be stored of it."""
        if end.state == "SUCCESS" and request.embed:
            end = self._proceeded(task, request, end)
        return self.ended(task, request, end)

    def close(
        self,
        task: BaseTask[Any, Any],
        request: Request,
        end: End,
        stored: tuple[int, bytes],
        *,
        raw: bytes,
        late: bool,
    ) -> None:
        """The second half, which does not block: tell the application, end the frame."""
        if late and end.decision != "ack":
            self.say("task-rejected", task, request, requeue=end.decision == "requeue")
        self.tell(task, request, end)
        self.port.note_end(end.counted)
        letter = self._spent(raw, task, request, end.error) if end.state == "FAILURE" else None
        self.settle_task(task, request, end.decision, end=end, raw=raw, late=late, stored=stored, letter=letter)
        if isinstance(end.error, (SystemExit, KeyboardInterrupt)):
            raise SystemExit(getattr(end.error, "code", 1))

    def _spent(
        self, raw: bytes, task: BaseTask[Any, Any], request: Request, error: BaseException | None
    ) -> bytes | None:
        gave_up, most = isinstance(error, MaxRetriesExceeded), task.options.max_retries
        return self.letters.spent(raw, retries=request.retries, max_retries=most, gave_up=gave_up, error=error)

    def _proceeded(self, task: BaseTask[Any, Any], request: Request, end: End) -> End:
        """Send callbacks and the next of the chain. What cannot be sent makes a failure of a success."""
        try:
            self.follow.proceed(request, end.value)
        except Exception as error:
            decision = self._after_failure(task)
            return End(state="FAILURE", error=error, traceback=_traceback(error), decision=decision)
        return end

    def ended(self, task: BaseTask[Any, Any], request: Request, end: End) -> tuple[End, tuple[int, bytes]]:
        """What stores the end and is still to be carried out; whatever waits for it has been told when this returns."""
        end, stored = self._stored(task, request, end)
        embed = request.embed
        if not embed or end.state not in ENDS:
            return end, stored
        if end.state == "FAILURE":
            assert end.error is not None
            more = self.follow.fail(
                request, end.error, traceback=end.traceback or None, stores=self._keeps(task, request, end)
            )
            stored = stored[0] + more[0], stored[1] + more[1]
        if embed.get("chord"):
            return self.counted(request, end, stored)
        return end, stored

    def freed(
        self, task: BaseTask[Any, Any], request: Request, end: End | None, stored: tuple[int, bytes], *, late: bool
    ) -> tuple[tuple[int, bytes], list[bytes]]:
        """What is stored together with what gives a lock or a slot back, or this apart, for another server."""
        commands = commands_of(self, task, request, end, late=late)
        if not commands or (self.results.enabled and not self.app.producer.stores_results_there):
            return stored, commands
        return (len(commands) + stored[0], b"".join(commands) + stored[1]), []

    def say_apart(self, commands: list[bytes], request: Request) -> None:
        """Tell the broker about locks and slots; blocks."""
        say_apart(self.app, commands, task_id=request.id)

    def counted(self, request: Request, end: End, stored: tuple[int, bytes]) -> tuple[End, tuple[int, bytes]]:
        """Store the end of a chord's part, and count it: at once, and not with the outcome of the frame."""
        value = end.value if end.state == "SUCCESS" else end.fields or error_fields(_cause(end.error))
        try:
            self.follow.count(request, end.state, value, stored)
        except ResultsUnavailable as error:
            # Acknowledged early, it cannot come again: its chord will not end. Else it runs again.
            logger.critical("Task %s: its part of chord %s is not counted: %s", request.id, request.group, error)
            return structs.replace(end, decision="requeue"), stored
        return end, (0, b"")

    def _stored(self, task: BaseTask[Any, Any], request: Request, end: End) -> tuple[End, tuple[int, bytes]]:
        """The commands that store the end. A value that cannot be encoded makes a failure of a success."""
        if end.state in ("IGNORED", "REJECTED") or not self._keeps(task, request, end):
            return end, (0, b"")
        value = end.value if end.state == "SUCCESS" else error_fields(_cause(end.error))
        try:
            return end, self.results.commands(
                end.state, value, request=request, traceback=end.traceback or None, began=self.began
            )
        except Exception as error:
            failed = End(state="FAILURE", error=error, traceback=_traceback(error), decision=self._after_failure(task))
            fields = error_fields(error)
            return failed, self.results.commands("FAILURE", fields, request=request, traceback=failed.traceback)

    def _keeps(self, task: BaseTask[Any, Any], request: Request, end: End) -> bool:
        if not self.ignores(task, request):
            return True
        errors = choose(task.options.store_errors_even_if_ignored, self.app.conf.task_store_errors_even_if_ignored)
        return errors and end.state == "FAILURE"

    def tell(self, task: BaseTask[Any, Any], request: Request, end: End) -> None:
        """Log it, send the signals, call the task's own hooks."""
        if end.state == "SUCCESS":
            if self.tells(task):
                self.say("task-succeeded", task, request, result=shown(end.value), runtime=end.runtime_s)
            signals.task_success.send(task, result=end.value)
            call_hook(task.options.on_success, task, request, end.value)
        elif end.state == "RETRY":
            logger.info("Task %s[%s] retry: %s", task.name, request.id, end.error)
            self.say("task-retried", task, request, exception=shown(_cause(end.error)), traceback=end.traceback)
            signals.task_retry.send(task, request=request, reason=end.error, einfo=end.traceback)
            call_hook(task.options.on_retry, task, request, end.error)
        elif end.state == "FAILURE":
            self.tell_failure(task, request, end)
        else:
            logger.info("Task %s[%s] %s: %s", task.name, request.id, end.state.lower(), end.error)
        signals.task_postrun.send(
            task,
            task_id=request.id,
            task=task,
            args=request.args,
            kwargs=request.kwargs,
            retval=end.value if end.state == "SUCCESS" else end.error,
            state=end.state,
        )

    def tell_failure(self, task: BaseTask[Any, Any], request: Request, end: End) -> None:
        """Of a failure, wherever it was found."""
        said = safe_repr(end.error)
        logger.error("Task %s[%s] raised unexpected: %s\n%s", task.name, request.id, said, end.traceback.rstrip())
        if self.tells(task):
            self.say("task-failed", task, request, exception=shown(end.error), traceback=end.traceback)
        signals.task_failure.send(
            task,
            task_id=request.id,
            exception=end.error,
            args=request.args,
            kwargs=request.kwargs,
            traceback=getattr(end.error, "__traceback__", None),
            einfo=end.traceback,
        )
        call_hook(task.options.on_failure, task, request, end.error)

    def tells(self, task: BaseTask[Any, Any] | None) -> bool:
        """Whether monitors are told of this task; of one that nobody knows they always are."""
        enabled = self.eventer is not None and self.eventer.enabled
        return enabled and (task is None or task.options.send_events)

    def say(self, kind: str, task: BaseTask[Any, Any] | None, request: Request, **fields: Any) -> None:
        """Tell monitors something of a task, if they are told anything."""
        if self.eventer is not None and self.tells(task):
            self.eventer.send(kind, uuid=request.id, **fields)

    def settle(
        self,
        decision: str,
        *,
        raw: bytes,
        late: bool,
        stored: tuple[int, bytes] = (0, b""),
        letter: bytes | None = None,
    ) -> None:
        """End the current frame: results, then what becomes of the message; with a letter, it is put aside."""
        if letter is not None and decision != "requeue":
            if stored[0]:
                self.port.store(*stored)
            self.port.outcome(frames.DEAD, 0, letter)
        elif late and decision == "requeue":
            if stored[0]:
                self.port.store(*stored)
            self.port.outcome(frames.REQUEUE, 0, mark_redelivered(raw))
        elif late or stored[0]:
            self.port.outcome(_OUTCOMES["reject" if late and decision == "reject" else "ack"], *stored)
        else:
            self.port.finish()

    def settle_task(
        self,
        task: BaseTask[Any, Any],
        request: Request,
        decision: str,
        *,
        raw: bytes,
        late: bool,
        end: End | None = None,
        stored: tuple[int, bytes] = (0, b""),
        letter: bytes | None = None,
    ) -> None:
        """The same for a known task; it gives its lock and its slot back. `end`: None if it was not run through."""
        if task.is_keyed:
            stored, apart = self.freed(task, request, end, stored, late=late)
            if apart:
                self.say_apart(apart, request)
        self.settle(decision, raw=raw, late=late, stored=stored, letter=letter)

    # ------------------------------------------------------------------------ what is not run

    def revoked(
        self, verdict: Verdict, task: BaseTask[Any, Any], request: Request, *, raw: bytes, late: bool
    ) -> Callable[[], None]:
        """Revoked, or its time is over. Counts it in its chord, which blocks; returns what ends the frame."""
        logger.info("Discarding revoked task: %s[%s]%s", task.name, request.id, verdict.reason)
        fields = {**REVOKED, "exc_message": [verdict.kind]}
        stored = (0, b"")
        stores = not self.ignores(task, request)
        if stores:
            stored = self.results.commands("REVOKED", fields, request=request)
        if request.embed:
            more = self.follow.revoke(request, fields, stores=stores)
            stored = stored[0] + more[0], stored[1] + more[1]
        if request.embed.get("chord"):
            stored = self.counted(request, End(state="REVOKED", fields=fields), stored)[1]
        facts: dict[str, Any] = {
            "terminated": verdict.kind == "terminated",
            "signum": verdict.signal_number or None,
            "expired": verdict.kind == "expired",
        }

        def close() -> None:
            self.say("task-revoked", task, request, **facts)
            signals.task_revoked.send(task, request=request, **facts)
            self.settle_task(task, request, "ack", raw=raw, late=late, stored=stored)

        return close

    def refuse(self, raw: bytes, *, late: bool, error: PeerError) -> None:
        """A message that cannot be opened."""
        logger.error("Refused a message: %s [%.1024r]", error, raw)
        signals.task_rejected.send(None, message=raw, exc=error)
        self.settle("reject", raw=raw, late=late, letter=self.letters.letter(raw, "undecodable", str(error)))

    def unknown(self, message: Message, *, late: bool) -> Callable[[], None]:
        """Nobody has registered the task. Sends its error callbacks, which blocks; returns what ends the frame."""
        name, request = message.header.task, Request(message, hostname=self.node)
        logger.error("Received unregistered task %r, id %s. Is the module that has it imported?", name, request.id)
        fields = {"exc_type": "NotRegistered", "exc_message": [name], "exc_module": "celery.exceptions"}
        stored = self.results.commands("FAILURE", fields, request=request)
        if message.embed:
            error = UnknownTask(f"nobody has registered {name!r}", task=name or "")
            more = self.follow.fail(request, error, traceback=None, stores=True)
            end = End(state="FAILURE", error=error, fields=fields)
            stored = stored[0] + more[0], stored[1] + more[1]
            if message.embed.get("chord"):
                stored = self.counted(request, end, stored)[1]

        def close() -> None:
            self.say("task-failed", None, request, exception=f"NotRegistered({name!r})")
            signals.task_unknown.send(None, name=name, id=request.id, message=message.raw, exc=None)
            letter = self.letters.letter(message.raw, "unknown", f"there is no task {name!r}")
            self.settle("reject", raw=message.raw, late=late, stored=stored, letter=letter)

        return close

    # ------------------------------------------------------------------------ for the compiled runner

    def failed(self, runner: Any, plain: Any, request: Request, late: bool) -> Callable[[], None]:
        """End a plain task that went wrong; the error is being handled. What is returned ends the frame."""
        error = sys.exc_info()[1]
        assert error is not None
        runner.pop(plain)
        self.began = moment(clock.now() - (clock.monotonic_ns() - int(runner.began_ns)) / 1e9)
        if isinstance(error, Ended):
            raise error
        raw = self.port.payload()
        end = self.end_of(plain.task, request, error)
        return lambda: self.conclude(plain.task, request, end, raw=raw, late=late)


#: Headers that are made anew for the next attempt, or that the options say.
_OWN_HEADERS = frozenset(
    {
        "lang",
        "task",
        "id",
        "shadow",
        "eta",
        "expires",
        "group",
        "group_index",
        "retries",
        "timelimit",
        "root_id",
        "parent_id",
        "argsrepr",
        "kwargsrepr",
        "origin",
        "ignore_result",
        "replaced_task_nesting",
        "stamped_headers",
        "stamps",
        "redelivered",
        "compression",
    }
)


def task_retry(task: BaseTask[Any, Any], request: Request, error: BaseException) -> Retry:
    """The next attempt after an error, by the task's options."""
    delay_s = task.options.retry_delay_s(request.retries)
    return Retry(f"Retry in {delay_s:.3g}s: {safe_repr(error)}", cause=error, countdown=delay_s)


def choose(own: bool | None, general: bool) -> bool:
    """The task's own choice, else the application's."""
    return general if own is None else own


def own_process(node: str) -> dict[str, Any]:
    """What STARTED says."""
    return {"pid": os.getpid(), "hostname": node}


def log_success(task: BaseTask[Any, Any], request: Request, value: Any, runtime_s: float) -> None:
    """As Celery logs it."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("Task %s[%s] succeeded in %ss: %.1024s", task.name, request.id, runtime_s, safe_repr(value))


def _cause(error: BaseException | None) -> BaseException:
    # A retry is stored as the error that made it necessary.
    found = error.cause if isinstance(error, Retry) and error.cause is not None else error
    assert found is not None
    return found


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))
